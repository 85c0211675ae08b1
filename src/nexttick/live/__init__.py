"""Running live: feed -> events -> predictor -> journal -> screen."""

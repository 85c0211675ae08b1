"""The machine: one compiled function that computes one tick of any network from its program.

The package's page says why and how. Sums are taken in any order (`fastmath`), which is what lets
them use the processor's wide registers; NaN and infinity keep their meaning.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from nexttick.scores.tally import EPS

# Columns of a program's row. A layer of a KIND reads SIZE numbers of the memory from SOURCE on and
# writes OUT numbers from TARGET on; its weights begin at WEIGHTS, and at PAST, in the memory too,
# what it keeps of earlier ticks. A convolution looks at TAPS ticks that lie DILATION apart, its
# channels in GROUPS, AT_ONCE taps in one sum. FIELD keeps two other numbers in these columns: its
# window in TAPS and the steps of its mean field in DILATION.
KIND, SOURCE, TARGET, SIZE, OUT, WEIGHTS, PAST, TAPS, DILATION, GROUPS, AT_ONCE = range(11)
COLUMNS = 11

# Kinds of layers.
PRODUCT, AFFINE, CENTRE, LEAK, SIGMOID, TANH, ADD, GATHER, FILL, LSTM, GRU, FIELD, SAY = range(13)

# Kinds of curves, from a probability to the one that is said.
AS_IT_IS, LINE, POINTS = range(3)

# Coefficients of tanh, those of the highest powers of x squared first.
_TANH_ENDS = np.float32(7.90531110763549805)  # beyond it float32 knows no difference to 1
_TANH_ABOVE = tuple(
    map(
        np.float32,
        (-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08,
         1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03),
    )
)  # fmt: skip
_TANH_BELOW = tuple(
    map(
        np.float32,
        (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03),
    )
)
_HALF = np.float32(0.5)

# Without "nnan" and "ninf": a NaN that comes in has to come out, and is no prediction.
_FAST = {"reassoc", "contract", "nsz"}


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def run(program, weights, curves, memory, tick):  # type: ignore[no-untyped-def]  # noqa: PLR0912
    """Compute one tick of a `Program`, out of the float32 memory into it.

    `tick`, int64 of shape (1,), is the number of this tick from 0 up, which says where the rings
    of past ticks stand; it is counted on.
    """
    # Every tick takes the same way through these branches, so that the processor guesses them.
    for row in range(len(program)):
        op = program[row]
        kind, size = op[KIND], op[SIZE]
        x = memory[op[SOURCE] : op[SOURCE] + size]
        y = memory[op[TARGET] : op[TARGET] + op[OUT]]
        # Open-ended: how many weights and how much past a kind takes is the kind's own affair.
        w = weights[op[WEIGHTS] :]
        past = memory[op[PAST] :]
        if kind == PRODUCT:
            _product(op, x, y, w, past, tick[0])
        elif kind == AFFINE:
            for i in range(size):
                # Divided as in training: narrow bins multiply the last bit of a scaled feature.
                scaled = (x[i] - w[i]) / w[size + i]
                y[i] = scaled * w[2 * size + i] + w[3 * size + i]
        elif kind == CENTRE:
            _centre(x, y, w)
        elif kind == LEAK:
            for i in range(size):
                y[i] = x[i] if x[i] > 0 else w[0] * x[i]
        elif kind == SIGMOID:
            for i in range(size):
                y[i] = _sigmoid(x[i])
        elif kind == TANH:
            for i in range(size):
                y[i] = _tanh(x[i])
        elif kind == ADD:
            for i in range(size):
                y[i] += x[i]
        elif kind == GATHER:
            for i in range(op[OUT]):
                y[i] = memory[int(w[i])]
        elif kind == FILL:
            _fill(x, y, w)
        elif kind == LSTM:
            _lstm(x, y, past)
        elif kind == GRU:
            _gru(x, y)
        elif kind == FIELD:
            _field(op, x, y, w, past)
        elif kind == SAY:
            _say(x, y, curves)
    tick[0] += 1


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def _product(op, x, y, w, past, tick):  # type: ignore[no-untyped-def]
    """A convolution at its newest place: of the last ticks in a ring, or of this tick alone.

    Each tick stands in the ring twice, one ring's length apart, so that the last ones always lie
    side by side and several can be gone through at once: a long sum takes less than many short.
    """
    taps, dilation, size, out = op[TAPS], op[DILATION], op[SIZE], op[OUT]
    span, each = dilation * (taps - 1) + 1, op[AT_ONCE] * size // op[GROUPS]
    filters, oldest = out // op[GROUPS], 0
    if taps > 1:
        # A ring of `span` ticks needs no shifting; which place is newest follows from the tick.
        newest = (tick % span) * size
        past[newest : newest + size] = x
        past[newest + span * size : newest + (span + 1) * size] = x
        oldest = newest + size
    y[:] = w[:out]
    at = out
    # `AT_ONCE` taps are one sum where they lie side by side; else (dilated, grouped) tap by tap.
    for tap in range(0, taps, op[AT_ONCE]):
        then = oldest + tap * dilation * size
        for o in range(out):
            start = then + o // filters * each
            inputs, weighed = past[start : start + each], w[at : at + each]
            total = np.float32(0)
            for i in range(each):
                total += inputs[i] * weighed[i]
            y[o] += total
            at += each


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def _centre(x, y, w):  # type: ignore[no-untyped-def]
    """Layer norm over the channels: w holds epsilon, gains and biases."""
    size = len(x)
    mean = np.float32(0)
    for i in range(size):
        mean += x[i]
    mean /= np.float32(size)
    var = np.float32(0)
    for i in range(size):
        var += (x[i] - mean) * (x[i] - mean)
    scale = np.float32(1) / np.sqrt(var / np.float32(size) + w[0])
    for i in range(size):
        y[i] = (x[i] - mean) * scale * w[1 + i] + w[1 + size + i]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def _fill(x, y, w):  # type: ignore[no-untyped-def]
    """The features, then how far each has filled each of its bins: w holds edges and 1 / widths."""
    size = len(x)
    bins = len(y) // size - 1
    y[:size] = x
    for i in range(size):
        for k in range(i * bins, (i + 1) * bins):
            share = (x[i] - w[k]) * w[size * bins + k]
            share = np.float32(0) if share < 0 else share
            y[size + k] = np.float32(1) if share > 1 else share


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def _tanh(x):  # type: ignore[no-untyped-def]
    """Within 3e-7 of tanh, as a ratio of two polynomials that Eigen and ONNX Runtime use too.

    Unlike the C library's, 8 values are computed at once: 1 us for 640, and not 18.
    """
    x = -_TANH_ENDS if x < -_TANH_ENDS else _TANH_ENDS if x > _TANH_ENDS else x
    square = x * x
    above, below = _TANH_ABOVE[0], _TANH_BELOW[0]
    for k in range(1, len(_TANH_ABOVE)):
        above = above * square + _TANH_ABOVE[k]
    for k in range(1, len(_TANH_BELOW)):
        below = below * square + _TANH_BELOW[k]
    return x * above / below


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def _sigmoid(x):  # type: ignore[no-untyped-def]
    return _HALF + _HALF * _tanh(_HALF * x)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def _lstm(x, h, c):  # type: ignore[no-untyped-def]
    """Gates i, f, candidate, o to the next h and c."""
    size = len(h)
    for i in range(size):
        kept = _sigmoid(x[size + i]) * c[i]
        c[i] = kept + _sigmoid(x[i]) * _tanh(x[2 * size + i])
    for i in range(size):
        h[i] = _sigmoid(x[3 * size + i]) * _tanh(c[i])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def _gru(x, h):  # type: ignore[no-untyped-def]
    """What input and state say to the gates r, z, n, to the next h (torch's convention)."""
    size = len(h)
    said = x[3 * size :]
    for i in range(size):
        r = _sigmoid(x[i] + said[i])
        z = _sigmoid(x[size + i] + said[size + i])
        n = _tanh(x[2 * size + i] + r * said[2 * size + i])
        h[i] = (np.float32(1) - z) * n + z * h[i]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def _field(op, x, y, w, past):  # type: ignore[no-untyped-def]
    """`DenseCRF.step` over the two labels of each horizon.

    Of two labels only the difference counts: with d = log q(rise) - log q(no rise), a mean-field
    step is d <- logit + sum_s k(s, t) tanh(d_s / 2). The past holds the ticks' distances in time
    and price, then their tanh(d / 2) before each step of each horizon, oldest first.
    """
    window, steps = op[TAPS], op[DILATION]
    elapsed, change = math.exp(x[int(w[0])]), x[int(w[1])]
    near, alike, smooth, both, alone = w[2], w[3], w[4], w[5], w[6]
    times, prices = past[:window], past[window : 2 * window]
    weighed = past[2 * window : 3 * window]
    for n in range(window):
        times[n] += elapsed
        prices[n] += change
        time, price = times[n] * times[n], prices[n] * prices[n]
        weighed[n] = both * math.exp(-(time * near + price * alike))
        weighed[n] += alone * math.exp(-time * smooth)
    for horizon in range(op[OUT]):
        # Each step of the mean field hears what earlier ticks thought before that same step, so
        # that a tick's answer never depends on a later one and nothing is computed twice.
        logit = y[horizon]
        for step in range(steps):
            start = (3 + horizon * steps + step) * window
            heard = past[start : start + window]
            newest = _tanh(y[horizon] / 2)
            y[horizon] = logit
            for n in range(window):
                y[horizon] += heard[n] * weighed[n]
            _push(heard, newest)
    # This tick becomes the newest of the past, no time and no price change away from itself.
    _push(times, np.float32(0))
    _push(prices, np.float32(0))


@njit(cache=True, nogil=True, error_model="numpy")
def _push(values, newest):  # type: ignore[no-untyped-def]
    for n in range(len(values) - 1):
        values[n] = values[n + 1]
    values[-1] = newest


@njit(cache=True, nogil=True, error_model="numpy")
def _say(x, y, curves):  # type: ignore[no-untyped-def]
    """Logits to probabilities, each through its curve of `calibration`.

    Without `fastmath`, and in float64 behind the sigmoid, for calibration is so in batch.
    """
    at = 0
    for horizon in range(len(x)):
        y[horizon] = np.float32(1) / (np.float32(1) + np.float32(math.exp(-x[horizon])))
        kind, length = int(curves[at]), int(curves[at + 1])
        numbers = curves[at + 2 : at + 2 + length]
        at += 2 + length
        if kind == LINE:
            p = _inside(float(y[horizon]))
            logit = numbers[0] * (math.log(p) - math.log1p(-p)) + numbers[1]
            y[horizon] = _inside(1 / (1 + math.exp(-logit)))
        elif kind == POINTS:
            half = length // 2
            y[horizon] = _inside(_between(float(y[horizon]), numbers[:half], numbers[half:]))


@njit(cache=True, nogil=True, error_model="numpy")
def _inside(p):  # type: ignore[no-untyped-def]
    """Clipped to what may be said; NaN stays NaN."""
    return EPS if p < EPS else 1 - EPS if p > 1 - EPS else p


@njit(cache=True, nogil=True, error_model="numpy")
def _between(p, x, y):  # type: ignore[no-untyped-def]
    """`numpy.interp` of one value."""
    k = np.searchsorted(x, p, side="right")
    if k == 0 or k == len(x):
        return y[0] if k == 0 else y[-1]
    return y[k - 1] + (y[k] - y[k - 1]) * (p - x[k - 1]) / (x[k] - x[k - 1])

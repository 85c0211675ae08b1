"""Cells as the lecture's equations stand, stacks of them, and the five shapes."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from nexttick.networks.layers.recurrent import (
    CELLS,
    GRUCell,
    LSTMCell,
    Recurrent,
    SequenceNet,
    Shape,
)

close = partial(torch.testing.assert_close, rtol=0, atol=1e-10)
TORCH: dict[str, type[nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
IN, HIDDEN, B, T = 3, 5, 4, 12
every_cell = pytest.mark.parametrize("cell", CELLS)


def ticks(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(B, T, IN, generator=generator, dtype=torch.float64)


def both(cell: str, layers: int, dropout: float = 0.0) -> tuple[Recurrent, nn.RNNBase]:
    torch.manual_seed(0)
    theirs = TORCH[cell](IN, HIDDEN, layers, batch_first=True, dropout=dropout).double()
    ours = Recurrent(IN, HIDDEN, cell, layers, dropout=dropout).double().load_torch(theirs)
    return ours, theirs


@every_cell
@pytest.mark.parametrize("layers", [1, 3])
def test_stacks_are_those_of_torch(cell: str, layers: int) -> None:
    ours, theirs = both(cell, layers)
    x_BTC = ticks()
    h_BTC, state = ours.run(x_BTC)
    want_BTC, want_state = theirs(x_BTC)
    close(h_BTC, want_BTC)
    parts = want_state if isinstance(want_state, tuple) else (want_state,)
    for part, want in enumerate(parts):
        close(torch.stack(state[part :: len(parts)]), want)
    close(ours(x_BTC.transpose(1, 2)), want_BTC.transpose(1, 2))


@every_cell
def test_gradients_through_time_are_those_of_torch(cell: str) -> None:
    ours, theirs = both(cell, 2)
    ours.run(ticks())[0].square().sum().backward()
    theirs(ticks())[0].square().sum().backward()
    order = [
        weight
        for c in ours.cells
        for part in ("weight", "bias")
        for weight in (getattr(c.from_input, part), getattr(c.from_hidden, part))
    ]
    for our, their in zip(order, theirs.parameters(), strict=True):
        close(our.grad, their.grad)


@every_cell
def test_steps_and_pieces_go_on_where_the_last_one_ended(cell: str) -> None:
    ours, _ = both(cell, 2)
    x_BTC = ticks()
    whole, last = ours.run(x_BTC)
    state, h_steps = ours.initial_state(B), []
    for t in range(T):
        h_BC, state = ours.step(x_BTC[:, t], state)
        h_steps.append(h_BC)
    close(torch.stack(h_steps, dim=1), whole)
    first, middle = ours.run(x_BTC[:, :7])
    second, end = ours.run(x_BTC[:, 7:], middle)
    close(torch.cat([first, second], dim=1), whole)
    for one, two, three in zip(last, state, end, strict=True):
        close(one, two)
        close(one, three)


def gate(cell: nn.Module, place: int, h: Tensor, x: Tensor) -> Tensor:
    """W [h, x] + b of the textbooks, from the parts that torch keeps."""
    weight = torch.cat(
        [cell.from_hidden.weight.split(HIDDEN)[place], cell.from_input.weight.split(HIDDEN)[place]],
        dim=1,
    )
    bias = cell.from_hidden.bias.split(HIDDEN)[place] + cell.from_input.bias.split(HIDDEN)[place]
    return torch.cat([h, x], dim=1) @ weight.T + bias


def random_state(parts: int) -> tuple[Tensor, ...]:
    torch.manual_seed(3)
    return tuple(torch.randn(B, HIDDEN, dtype=torch.float64) for _ in range(parts))


def test_lstm_is_the_lectures_equations() -> None:
    torch.manual_seed(1)
    cell, x = LSTMCell(IN, HIDDEN).double(), ticks()[:, 0]
    h, c = random_state(2)
    i, f, new, o = (gate(cell, place, h, x) for place in range(4))
    c_next = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(new)
    h_next = torch.sigmoid(o) * torch.tanh(c_next)
    for ours, want in zip(cell(x, (h, c)), (h_next, c_next), strict=True):
        close(ours, want)


def test_gru_with_the_reset_before_is_the_lectures_equations() -> None:
    """The lecture's z is one minus torch's: the update gate's weights change their sign."""
    torch.manual_seed(1)
    cell, x = GRUCell(IN, HIDDEN, reset="before").double(), ticks()[:, 0]
    (h,) = random_state(1)
    r, z = torch.sigmoid(gate(cell, 0, h, x)), torch.sigmoid(-gate(cell, 1, h, x))
    candidate = torch.tanh(gate(cell, 2, r * h, x))
    close(cell(x, (h,))[0], (1 - z) * h + z * candidate)


def test_the_two_resets_agree_only_where_the_matrix_is_diagonal() -> None:
    torch.manual_seed(1)
    after, before = GRUCell(IN, HIDDEN).double(), GRUCell(IN, HIDDEN, "before").double()
    before.load_state_dict(after.state_dict())
    x, state = ticks()[:, 0], random_state(1)
    assert not torch.allclose(after(x, state)[0], before(x, state)[0], atol=1e-3)
    with torch.no_grad():
        for cell in (after, before):
            cell.from_hidden.weight[2 * HIDDEN :] *= torch.eye(HIDDEN)
            cell.from_hidden.bias[2 * HIDDEN :] = 0
    close(after(x, state)[0], before(x, state)[0])


@every_cell
def test_dropout_lies_between_layers_and_in_training_only(cell: str) -> None:
    ours, theirs = both(cell, 2, dropout=0.5)
    heard: list[Tensor] = []
    ours.cells[1].from_input.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    close(ours.eval().run(ticks())[0], theirs.eval()(ticks())[0])
    ours.train().run(ticks())
    quiet, dropped = heard
    close(dropped, torch.where(dropped == 0, 0.0, 2 * quiet))
    assert 0.3 < (dropped == 0).double().mean() < 0.7
    one, _ = both(cell, 1)
    one.dropout.p = 0.5
    torch.testing.assert_close(one.train().run(ticks())[0], one.eval().run(ticks())[0])


@every_cell
@pytest.mark.parametrize(
    ("shape", "inputs", "count"),
    [
        ("one-to-one", 1, 1),
        ("one-to-many", 1, 4),
        ("many-to-one", T, 1),
        ("aligned", T, T),
        ("delayed", T, 4),
    ],
)
def test_five_shapes(cell: str, shape: Shape, inputs: int, count: int) -> None:
    """What each shape reads and says, against torch's layer fed by hand."""
    stack, theirs = both(cell, 2)
    net = SequenceNet(stack, 2, shape).double()
    x_BTC = ticks()[:, :inputs]
    y = net(x_BTC, count) if shape in ("one-to-many", "delayed") else net(x_BTC)
    assert y.shape == (B, count, 2)
    h_BTC, state = theirs(x_BTC)
    if shape == "aligned":
        close(y, net.head(h_BTC))
        return
    close(y[:, 0], net.head(h_BTC[:, -1]))
    for place in range(1, count):
        h_BTC, state = theirs(x_BTC.new_zeros(B, 1, IN), state)
        close(y[:, place], net.head(h_BTC[:, 0]))


def test_wrong_shapes_and_cells_are_refused() -> None:
    stack = Recurrent(IN, HIDDEN)
    with pytest.raises(ValueError, match="give one"):
        SequenceNet(stack, 1, "one-to-many")(torch.zeros(1, 2, IN), 3)
    with pytest.raises(ValueError, match="leave count at 1"):
        SequenceNet(stack, 1, "many-to-one")(torch.zeros(1, 2, IN), 3)
    with pytest.raises(ValueError, match="choose from"):
        SequenceNet(stack, 1, "many-to-few")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="choose a cell"):
        Recurrent(IN, HIDDEN, "elman")
    with pytest.raises(ValueError, match="reset="):
        GRUCell(IN, HIDDEN, "never")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="other shapes"):
        stack.load_torch(nn.GRU(IN, HIDDEN))

"""The step of a network as a small compiled machine: why it is, what it is, how it is checked.

*Why.* A live trade wants its probability in some tens of microseconds. Libraries spend most of a
step on going from one operation to the next and little on the arithmetic: on the default networks
ONNX Runtime takes 3.8 (rnn) to 6.8 (cnn) times as long as the machine, PyTorch longer still
(`docs/live.md`). And what compiles a network when it is loaded makes every start wait for the
compiler. So there is one function, compiled by numba once and kept on disk, for which a network is
data and not code.

*What.* `compiling.py` goes through a trained network and writes a program: one row of whole
numbers a layer (`machine.KIND`, `SOURCE`, …), all weights in one float32 array, the calibrations
in one float64 array. Everything that changes lies in one flat float32 memory, whose places are
given out while the program is written (`compiling.Writer`): the tick's features, every layer's
output, the past that convolutions look back on, the states of recurrent cells. `machine.run` goes
through the rows and computes each layer out of that memory into it. Nothing is allocated at a
tick; the whole state of a market is the memory and the number of the tick, so that a snapshot is
a copy and a restart goes on exactly.

*What not.* A layer is known by its exact class, for a subclass may compute something else. A
network with any other layer has no program (`NoProgramError` says which), and `backends.py` falls
back to ONNX Runtime or PyTorch, slower and with the same numbers.

*Checked* in `tests/learn/test_stepper.py`: for every entry of the zoo, with each norm, with and
without bins and calibrations, over random ticks with gaps, the machine says within 1e-5 what the
dense call says (sums in another order are all the difference); its tanh is within 3e-7 of numpy's;
a snapshot taken anywhere goes on bit by bit; after the first tick nothing is allocated.
`python -m bench.live` measures it.
"""

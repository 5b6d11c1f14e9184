"""A GPU that runs our kernels' PTX on this CPU, instruction by instruction, and reports what a GPU would do wrong.

``driver.PtxDriver`` stands in for the driver. PTX is parsed (``parse``), branches get the place where their lanes meet
again (``control_flow``), instructions become operations on registers of 32 lanes (``assemble``), which a C++ program
executes a warp at a time (``machine``); ``arrays`` knows the tensors that kernels are given.
"""

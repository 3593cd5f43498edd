"""Where tensors live: the machine, several devices, batch-norm over them, memory.

Others may import ``machine`` (device and precision by default) and ``devices`` (what processes of one run tell each
other). Knows no method, no data and no file.
"""

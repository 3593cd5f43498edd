"""Where tensors live: the machine's device and precision, several devices for one run, batch-norm over them, memory.

Others may import ``machine``, ``devices``, ``memory``, and for training ``batchnorm`` and ``launch``.
"""

"""What the eigensolver costs, beside other packages' and beside what the machine could do.

:func:`sharpflat.benchmarks.run.run` measures tasks and writes the tables. A method is one entry of
:data:`sharpflat.benchmarks.peers.METHODS`.
"""

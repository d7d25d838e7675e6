"""What ptychodus imports as its PtychoPINN-Torch backend, with ptychoflow's engine behind it.

On the path only of ``ptychoflow ptychodus``; the work is done in :mod:`ptychoflow.plugins.ptychodus.backend`. Names and
keywords are those that ptychodus 1.7.0 uses, and nothing else is here.
"""

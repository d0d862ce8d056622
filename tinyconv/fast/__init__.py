"""Fused blocks: fast training and inference on a CPU.

A small net on a CPU spends most of its time on memory traffic between layers, on dropout masks and
on depthwise and grouped convolutions, for which TensorFlow is slow. This package fuses the layers
of a block:

- A thread computes a whole block for one image, in loops that Numba compiles. All intermediate
  activations stay in the cache of the thread's core. The backward pass computes them again.
- A dropout mask takes one hashed bit per element.
- A thread computes all blocks of a chain for a few images, so that the activations between the
  blocks stay in the cache.
- A batch norm is computed by TensorFlow's fused operation.

`twin.twin` makes a copy of a net with fused blocks. The copy shares the variables of the net, and
the net itself is unchanged.
"""

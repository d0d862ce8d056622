"""Fused blocks: fast training and inference on a CPU.

A small net on a CPU spends most of its time on memory traffic between layers, on dropout masks and
on depthwise and grouped convolutions, for which TensorFlow is slow. This package fuses the layers
of a block:

- Numba compiles one function for each kind of block. The function computes a block image by image,
  so that the activations inside the block stay in the cache. The backward pass recomputes them.
- A thread computes all blocks of a chain for a few images, so that the activations between two
  blocks stay in the cache.
- A dropout mask is one bit of a hash per element.
- TensorFlow's fused operation computes a batch norm.

`twin.twin` makes a copy of a net with fused blocks. The copy shares the variables of the net. The
net itself is unchanged.
"""

"""What makes training and inference on a CPU fast: blocks of a net, one after the other, as one.

Layer by layer, a small net on a CPU spends its time moving activations through memory, drawing
dropout masks and in convolutions that TensorFlow does badly: depthwise and grouped ones. Here one
thread takes one image through a whole block in loops that Numba compiles, so that everything
between input and output stays in its cache; the backward pass computes it again instead of keeping
it, and dropout takes one hashed bit. From block to block it goes on with the same few images.
A batch norm becomes the one operation that TensorFlow has for it. `twin.twin` puts all this in
place of stock layers, on the same variables: the net that is saved stays as it was.
"""

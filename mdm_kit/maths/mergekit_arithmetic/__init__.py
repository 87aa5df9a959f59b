"""The arithmetic of mergekit 0.1.5, step by step, for merges that must come out as they once did.

Functions here take whole tensors of one shape in the working dtype and give the merged tensor.
Every step is the torch operation mergekit's formula has at that place, on the same shapes and
dtypes, because each rounds: another order, or a fused step, would be another result. So nothing
here is better than it is there; where precision matters, the rest of `maths` is.

Three things are not as there. Of equal magnitudes the lowest index is chosen, where mergekit takes
any. What DARE and DELLA drop is drawn from the recipe's seed and names, where mergekit asks torch's
global generator. Above a million elements Arcee Fusion's quartiles are those of all elements, where
mergekit looks at a random million.

Sums, norms and softmax of one vector of tens of thousands of elements, and `torch.dot`, change
their last bits with torch's number of threads, and so do mergekit's results: those of slerp,
nuslerp, multislerp, karcher, model_stock, of arcee_fusion on vectors, and of all methods that
rescale. Here everything is computed on one thread (`one_thread`), as by
`mergekit-yaml --num-threads 1`; the other methods have the same bits on any number.
"""

"""The taggers: registered architectures of one signature.

Each is a thinc `Model[list[Query], list[Floats2d]]`: for every query the
probabilities of the tags B, I and O, a row a token of its window. What is passed
back is the gradient of the loss with regard to the logits, as with thinc's
`Softmax`.
"""

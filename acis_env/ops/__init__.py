"""What a CPU does faster by NumPy, OpenCV or a function that torch does not document.

Every file holds the obvious version in torch, which runs everywhere else and is the tests' oracle, the faster one, and
the function that chooses between them. Nothing else in the package asks for private parts of torch.
"""

"""`make soak`: thousands of mixed flows with random faults through one real mitmdump, every byte and every row
counted.
"""

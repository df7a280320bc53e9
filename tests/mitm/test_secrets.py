"""No prompt, completion, credential or query secret in anything that the addon writes. (Being written by proofs-4.)"""

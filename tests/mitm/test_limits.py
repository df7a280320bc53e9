"""Every bound under real traffic: many streams, long sockets, large frames, large requests. (Being written by proofs-4.)"""

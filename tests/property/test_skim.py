"""A frame that the skim passes over never changes the observation."""

"""RL-MBA under the paper's names: AMCB, EFDA, score and candidates, state, policy, reward.

Pure functions on arrays, and two small stateful parts (the policy and the reward's moving averages).
``rlmba.strategies`` composes them. Each module names the equations that it implements.
"""

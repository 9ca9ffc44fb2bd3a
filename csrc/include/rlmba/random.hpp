#pragma once

#include <cstdint>

#include "rlmba/view.hpp"

// Counter-based uniform numbers: the i-th number of a seed is a pure function of (seed, i), so
// every backend, block size and thread count uses the same stream. kernels/common/random.py is the
// NumPy counterpart.
namespace rlmba {

// Finalizer of SplitMix64 (Steele, Lea and Flood, 2014) over seed + (counter + 1) * golden ratio.
RLMBA_INLINE std::uint64_t mix64(std::uint64_t seed, std::uint64_t counter) {
  std::uint64_t z = seed + (counter + 1) * 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

// Uniform in (0, 1): 52 bits plus half a unit, so that its logarithm is always finite.
RLMBA_INLINE double uniform01(std::uint64_t seed, std::uint64_t counter) {
  return (static_cast<double>(mix64(seed, counter) >> 12) + 0.5) * 0x1.0p-52;
}

}  // namespace rlmba

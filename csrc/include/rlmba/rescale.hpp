#pragma once

#include <math.h>

#include "rlmba/view.hpp"

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// Smallest and largest of the added numbers; initially low > high.
template <class T>
struct Range {
  T low = static_cast<T>(INFINITY);
  T high = -static_cast<T>(INFINITY);

  RLMBA_INLINE void add(T x) {
    low = x < low ? x : low;
    high = x > high ? x : high;
  }
  RLMBA_INLINE void merge(const Range& other) {
    low = other.low < low ? other.low : low;
    high = other.high > high ? other.high : high;
  }
};

// (x - low) / (high - low): exactly 0 at low, 1 at high, and 0 for a constant or empty range. If
// high - low overflows, all numbers are halved first.
template <class T>
struct Rescale {
  T factor = 1;
  T low = 0;
  T width = 1;

  RLMBA_INLINE static Rescale to_unit(const Range<T>& r) {
    Rescale s;
    if (!(r.low < r.high)) {
      s.factor = 0;
      s.low = T(-0.0);  // so that negative x, too, becomes +0
      return s;
    }
    s.factor = r.high - r.low < static_cast<T>(INFINITY) ? T(1) : T(0.5);
    s.low = r.low * s.factor;
    s.width = r.high * s.factor - s.low;
    return s;
  }
  RLMBA_INLINE T operator()(T x) const { return (x * factor - low) / width; }
};

}  // namespace rlmba::RLMBA_ISA
#endif

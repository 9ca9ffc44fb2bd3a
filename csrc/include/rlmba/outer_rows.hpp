#pragma once

#include <cmath>
#include <cstdint>

#include "rlmba/gradient_kmeans_plusplus.hpp"
#include "rlmba/parallel.hpp"
#include "rlmba/squared_distance.hpp"
#include "rlmba/view.hpp"

// |a (x) z - b (x) w|^2 = (|a - b|^2 |z + w|^2 + |a + b|^2 |z - w|^2 + 2 (|a|^2 - |b|^2) (|z|^2 -
// |w|^2)) / 4, with |a + b|^2 = 2 |a|^2 + 2 |b|^2 - |a - b|^2: It is exactly 0 for duplicates and
// avoids the cancellation of |x|^2 + |y|^2 - 2 <a, b> <z, w> for near rows. The last term cancels
// only if |a| and |b| differ much. b (x) w is therefore taken as (r b) (x) (w / r), where the power
// of two r brings them within a factor of two. Products of limited precision only preselect the
// pairs for which this form is computed.

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// One row, or one center: its factors and their squared norms.
template <class T>
struct Factors {
  const T* a;
  const T* z;
  double a2;
  double z2;
};

// The power of two r for which a2 and r^2 b2 lie within a factor of four or so.
inline double balance(double a2, double b2) {
  constexpr int kLargest = 256;
  int r = (std::ilogb(a2) - std::ilogb(b2)) / 2;
  if (r > kLargest) r = kLargest;
  if (r < -kLargest) r = -kLargest;
  return std::ldexp(1.0, r);
}

template <class T>
double outer_distance(const Factors<T>& x, const Factors<T>& y, std::int64_t classes,
                      std::int64_t width) {
  if (x.a2 == 0 || y.a2 == 0) return x.a2 * x.z2 + y.a2 * y.z2;
  const double r = balance(x.a2, y.a2);
  const double b2 = y.a2 * r * r;
  const double w2 = y.z2 / (r * r);
  const double da = scaled_squared_distance(x.a, y.a, r, classes);
  const double dz = scaled_squared_distance(x.z, y.z, 1 / r, width);
  double sa = 2 * x.a2 + 2 * b2 - da;
  double sz = 2 * x.z2 + 2 * w2 - dz;
  if (sa < 0) sa = 0;
  if (sz < 0) sz = 0;
  const double d = 0.25 * (da * sz + sa * dz + 2 * (x.a2 - b2) * (x.z2 - w2));
  return d > 0 ? d : 0;
}

// Rows of the feature factor.
template <class T>
class FeatureRows {
 public:
  explicit FeatureRows(const OuterRows<T>& x) : x_(x), width_(0) {
    for (std::int64_t m = 0; m < x.count; ++m) width_ += x.parts[m].cols;
  }

  std::int64_t width() const { return width_; }

  // `depth` values of a row from `column` on, in place or in `buffer`.
  const T* slice(std::int64_t row, std::int64_t column, std::int64_t depth, T* buffer) const {
    if (x_.count == 1 && x_.scales.data == nullptr) return x_.parts[0].row(row) + column;
    std::int64_t begin = 0;
    for (std::int64_t m = 0; m < x_.count; ++m) {
      const std::int64_t end = begin + x_.parts[m].cols;
      const std::int64_t from = max_i64(begin, column);
      const std::int64_t to = min_i64(end, column + depth);
      if (from < to) {
        const T scale = x_.scales.data == nullptr ? T(1) : x_.scales.row(row)[m];
        const T* values = x_.parts[m].row(row) + (from - begin);
        T* out = buffer + (from - column);
        for (std::int64_t p = 0; p < to - from; ++p) out[p] = scale * values[p];
      }
      begin = end;
    }
    return buffer;
  }

  const T* slice(std::int64_t row, std::int64_t column, std::int64_t depth, T* buffer,
                 double*) const {
    return slice(row, column, depth, buffer);
  }

 private:
  OuterRows<T> x_;
  std::int64_t width_;
};

}  // namespace rlmba::RLMBA_ISA
#endif

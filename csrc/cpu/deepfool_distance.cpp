#include "rlmba/deepfool_distance.hpp"

#include <math.h>

#include "rlmba/parallel.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/squared_distance.hpp"
#include "rlmba/vector_double.hpp"

namespace rlmba::RLMBA_ISA {
namespace {

// Rows per thread and step. Rows are independent, so results do not depend on it.
constexpr std::int64_t kChunkRows = 256;

template <class T>
void pair_norms_impl(const MatrixView<const T>& w, const MatrixView<double>& norms) {
  // A row takes time in proportion to its index.
  const std::int64_t chunk = w.rows * w.cols > (1 << 14) ? 1 : w.rows;
  parallel_for(w.rows, chunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) {
      norms.row(j)[j] = 0;
      for (std::int64_t k = 0; k < j; ++k) {
        const double norm = sqrt(squared_distance(w.row(j), w.row(k), w.cols));
        norms.row(j)[k] = norm;
        norms.row(k)[j] = norm;
      }
    }
  });
}

// Best value and its position per lane; ties go to the lower position.
struct Best {
  DoubleVec value;
  LongVec place;

  RLMBA_INLINE void offer(DoubleVec v, LongVec at) {
    const LongVec better = v < value;
    value = better ? v : value;
    place = better ? at : place;
  }
  RLMBA_INLINE void reduce(double* best, std::int64_t* at) const {
    *best = value[0];
    *at = place[0];
    for (int l = 1; l < kWide; ++l) {
      if (value[l] < *best || (value[l] == *best && place[l] < *at)) {
        *best = value[l];
        *at = place[l];
      }
    }
  }
};

// False if the row is not finite.
template <class T>
RLMBA_INLINE bool row(const T* x, std::int64_t classes, const MatrixView<const double>& norms,
                      double* distance, std::int64_t* other) {
  const LongVec iota = wide_iota();
  Best low{wide(INFINITY), iota};
  DoubleVec probe{};
  for (std::int64_t c = 0; c < classes; c += kWide) {
    // Lanes beyond the row hold minus infinity, which is never the largest value.
    const DoubleVec v = load_wide_up_to(x + c, classes - c, -INFINITY);
    probe += load_wide_up_to(x + c, classes - c, 0.0) * 0.0;
    low.offer(-v, iota + c);
  }
  if (sum_of(probe) != 0) return false;
  double top;
  std::int64_t y;
  low.reduce(&top, &y);
  top = -top;
  Best best{wide(INFINITY), LongVec{} - 1};
  const double* norm = norms.row(y);
  for (std::int64_t c = 0; c < classes; c += kWide) {
    const DoubleVec gap = top - load_wide_up_to(x + c, classes - c, -INFINITY);
    // For y itself this is 0 / 0 = NaN, which never compares as smaller.
    DoubleVec d = gap / load_wide_up_to(norm + c, classes - c, 1.0);
    // Another class with the same logit has distance 0, even if its weights are the same.
    d = (gap == 0.0) & (iota + c != y) ? DoubleVec{} : d;
    best.offer(d, iota + c);
  }
  best.reduce(distance, other);
  return true;
}

// One bit per lane that is set.
RLMBA_INLINE std::uint32_t bits_of(IntVec mask) {
#if defined(RLMBA_ISA_avx512)
  return _mm512_movepi32_mask((__m512i)mask);
#elif defined(RLMBA_ISA_avx2)
  return static_cast<std::uint32_t>(_mm256_movemask_ps((__m256)mask));
#else
  std::uint32_t bits = 0;
  for (int l = 0; l < kLanes; ++l) bits |= mask[l] ? 1u << l : 0u;
  return bits;
#endif
}

RLMBA_INLINE float max_of(FloatVec v) {
  if constexpr (kLanes > 8) v = max(v, swap_lanes<8>(v));
  if constexpr (kLanes > 4) v = max(v, swap_lanes<4>(v));
  v = max(v, swap_lanes<2>(v));
  return max(v, swap_lanes<1>(v))[0];
}

// Preselects classes of float rows with float reciprocal norms, and divides only for the few
// classes that may be nearest within rounding. Dividing for every class would cost more than
// reading the row.
class Screen {
 public:
  explicit Screen(const MatrixView<const double>& norms)
      : norms_(norms), width_(padded(norms.rows)), reciprocal_(norms.rows * width_) {
    for (std::int64_t j = 0; j < norms.rows; ++j) {
      for (std::int64_t k = 0; k < width_; ++k) {
        const double norm = k < norms.cols ? norms.row(j)[k] : 1.0;
        // 1 / 0 is infinite for equal weights. For the class itself the result is NaN, never the
        // smallest.
        reciprocal_[j * width_ + k] = k == j ? NAN : static_cast<float>(1 / norm);
        usable_ &= norm == 0 || (norm > 1e-30 && norm < 1e10);
      }
    }
  }

  static std::int64_t padded(std::int64_t classes) {
    return (classes + kLanes - 1) / kLanes * kLanes;
  }

  // Finds the result of a row, with space for `padded` numbers. False if the exact search is
  // needed.
  RLMBA_INLINE bool row(const float* x, float* room, double* distance, std::int64_t* other) const {
    const std::int64_t classes = norms_.cols;
    FloatVec high = splat(-INFINITY);
    FloatVec probe{};
    for (std::int64_t c = 0; c < classes; c += kLanes) {
      const FloatVec v = load_padded(x + c, classes - c);
      high = max(high, v);
      probe += v * 0.0f;
      store(room + c, v);
    }
    const float top = max_of(high);
    std::int64_t y = -1;
    for (std::int64_t c = 0; c < classes; c += kLanes) {
      const std::uint32_t tops = bits_of(load(room + c) == top);
      if (tops == 0) continue;
      if (y >= 0 || (tops & (tops - 1)) != 0) return false;  // a tie
      y = c + __builtin_ctz(tops);
    }
    if (!usable_ || y < 0 || y >= classes || bits_of(probe != 0.0f) != 0) return false;
    return nearest(y, top, room, distance, other);
  }

 private:
  // Lanes beyond the row hold a number whose gap to the largest is 0 (a tie, which needs the exact
  // search) or more than 1e25.
  RLMBA_INLINE static FloatVec load_padded(const float* x, std::int64_t count) {
    if (count >= kLanes) return load(x);
    const IntVec mask = first_lanes(count);
    const FloatVec v = load_first(x, count, mask);
    return mask ? v : splat(-3e38f);
  }

  RLMBA_INLINE bool nearest(std::int64_t y, float top, float* room, double* distance,
                            std::int64_t* other) const {
    const std::int64_t classes = norms_.cols;
    const float* reciprocal = &reciprocal_[y * width_];
    FloatVec low = splat(INFINITY);
    for (std::int64_t c = 0; c < classes; c += kLanes) {
      const FloatVec d = (top - load(room + c)) * load(reciprocal + c);
      low = min(d, low);
    }
    const float least = -max_of(-low);
    // Below this, float's rounding errors are not relative. A gap beyond float's range divided by a
    // norm below 1e10 is not a candidate.
    if (!(least > 1e-25f && least < 1e25f)) return false;
    // A product differs from the exact quotient by three roundings of 2^-24 each.
    const float bound = least * 1.000001f;
    double best = INFINITY;
    for (std::int64_t c = 0; c < classes; c += kLanes) {
      const FloatVec v = load(room + c);
      std::uint32_t near = bits_of((top - v) * load(reciprocal + c) <= bound);
      for (; near != 0; near &= near - 1) {
        const std::int64_t k = c + __builtin_ctz(near);
        if (k >= classes) break;
        const double gap = static_cast<double>(top) - static_cast<double>(room[k]);
        const double d = gap / norms_.row(y)[k];
        if (d < best) {
          best = d;
          *other = k;
        }
      }
    }
    *distance = best;
    return true;
  }

  MatrixView<const double> norms_;
  std::int64_t width_;
  Scratch<float> reciprocal_;
  bool usable_ = true;
};

template <class T>
std::int64_t deepfool_impl(const MatrixView<const T>& x, const MatrixView<const double>& norms,
                           double* distances, std::int64_t* classes) {
  constexpr bool kScreens = sizeof(T) == sizeof(float);
  // The table of reciprocal norms costs C^2, which pays off for more rows than classes.
  const bool screens = kScreens && x.rows >= x.cols;
  const MatrixView<const double> none{norms.data, 0, 0, 0};
  const Screen screen(screens ? norms : none);
  const std::int64_t width = Screen::padded(x.cols) + kLanes;
  const std::int64_t threads = max_threads();
  Scratch<float> room(threads * width);
  std::int64_t bad = x.rows;
  const auto process = [&](std::int64_t begin, std::int64_t end, std::int64_t thread) {
    float* const mine = &room[thread * width];
    for (std::int64_t i = begin; i < end; ++i) {
      if constexpr (kScreens) {
        if (screens && screen.row(x.row(i), mine, distances + i, classes + i)) continue;
      }
      if (!row(x.row(i), x.cols, norms, distances + i, classes + i)) {
        lower(bad, i);
        break;
      }
    }
  };
  parallel_for(x.rows, kChunkRows, threads, process);
  return bad < x.rows ? bad : -1;
}

}  // namespace

void pair_norms(MatrixView<const float> weight, MatrixView<double> norms) {
  pair_norms_impl(weight, norms);
}

void pair_norms(MatrixView<const double> weight, MatrixView<double> norms) {
  pair_norms_impl(weight, norms);
}

std::int64_t deepfool_distance(MatrixView<const float> logits, MatrixView<const double> norms,
                               double* distances, std::int64_t* classes) {
  return deepfool_impl(logits, norms, distances, classes);
}

std::int64_t deepfool_distance(MatrixView<const double> logits, MatrixView<const double> norms,
                               double* distances, std::int64_t* classes) {
  return deepfool_impl(logits, norms, distances, classes);
}

}  // namespace rlmba::RLMBA_ISA

#include "rlmba/deepfool_distance.hpp"

#include <math.h>

#include "rlmba/parallel.hpp"
#include "rlmba/squared_distance.hpp"
#include "rlmba/vector_double.hpp"

namespace rlmba::RLMBA_ISA {
namespace {

// Rows a thread takes at a time. Rows do not depend on each other, so results do not depend on it.
constexpr std::int64_t kChunkRows = 256;

template <class T>
void pair_norms_impl(const MatrixView<const T>& w, const MatrixView<double>& norms) {
#pragma omp parallel for schedule(dynamic, 1) if (w.rows * w.cols > (1 << 14))
  for (std::int64_t j = 0; j < w.rows; ++j) {
    norms.row(j)[j] = 0;
    for (std::int64_t k = 0; k < j; ++k) {
      const double norm = sqrt(squared_distance(w.row(j), w.row(k), w.cols));
      norms.row(j)[k] = norm;
      norms.row(k)[j] = norm;
    }
  }
}

// Lanes of best values and where they were found, the lower place first among equals.
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
    // Of what lies beyond the row, minus infinity is never the largest.
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
    // Of y itself 0 / 0, which is less than nothing.
    DoubleVec d = gap / load_wide_up_to(norm + c, classes - c, 1.0);
    // Another class with the same logit is no step away, even one with the same weights.
    d = (gap == 0.0) & (iota + c != y) ? DoubleVec{} : d;
    best.offer(d, iota + c);
  }
  best.reduce(distance, other);
  return true;
}

template <class T>
std::int64_t deepfool_impl(const MatrixView<const T>& x, const MatrixView<const double>& norms,
                           double* distances, std::int64_t* classes) {
  std::int64_t bad = x.rows;
#pragma omp parallel for schedule(dynamic, 1) reduction(min : bad) if (x.rows > kChunkRows)
  for (std::int64_t chunk = 0; chunk < chunk_count(x.rows, kChunkRows); ++chunk) {
    for (std::int64_t i = chunk * kChunkRows; i < min_i64((chunk + 1) * kChunkRows, x.rows); ++i) {
      if (!row(x.row(i), x.cols, norms, distances + i, classes + i)) {
        bad = min_i64(bad, i);
        break;
      }
    }
  }
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

#include "rlmba/nearest.hpp"

#include <cmath>
#include <limits>

#include "rlmba/amx_product.hpp"
#include "rlmba/packed_centers.hpp"
#include "rlmba/parallel.hpp"
#include "rlmba/row_products.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/squared_distance.hpp"
#include "rlmba/tile_product.hpp"

namespace rlmba::RLMBA_ISA {
namespace {

// Up to this many centers, distances are computed directly, because a tile would be mostly empty.
constexpr std::int64_t kDirectCenters = 2;

// Rows of x minus a shift.
template <class T>
struct ShiftedRows {
  MatrixView<const T> x;
  const T* shift;

  const T* slice(std::int64_t row, std::int64_t column, std::int64_t depth, T* buffer,
                 double* norm2) const {
    *norm2 += shift_row(x.row(row) + column, shift + column, depth, buffer);
    return buffer;
  }
};

// Bounds on the rounding error of multiply_rows. A score is |c'|^2 / 2 - x'.c', c' and x' shifted;
// u is the unit roundoff. A product summed in slices of kDepth errs by at most (kDepth + slices) u
// |x'| |c'|, rounding the shifted values adds 2 u |x'| |c'|, the half norm and the subtraction the
// rest. Two more units and the factor 1.01 cover terms of higher order. The last term is the
// rounding of the exact distances, so that the set of candidates does not depend on the shift.
template <class E>
struct ScoreError {
  using T = typename E::Value;
  double score;  // of one score
  double norm;   // of half the squared norm of the row

  ScoreError(std::int64_t dim, double row_norm2, double largest_half_norm) {
    constexpr double u = std::numeric_limits<T>::epsilon() / 2;
    const double depth = static_cast<double>(min_i64(dim, E::kDepth));
    const double product = std::sqrt(2 * row_norm2 * largest_half_norm);
    const double width = static_cast<double>(dim);
    const double tiny =
        E::kTiny * width * (1 + std::sqrt(row_norm2) + std::sqrt(2 * largest_half_norm));
    const double distance = 0x1.0p-53 * (width / 16 + 8) * 2 * (row_norm2 + 2 * largest_half_norm);
    score =
        1.01 * (u * ((E::roundings(dim) + 6) * product + 4 * largest_half_norm) + distance + tiny);
    norm = 1.01 * (u * (depth / E::kLanes + 6) * row_norm2 + tiny);
  }
};

template <class T>
struct RowState {
  const T* x;
  double squared;
  std::int64_t label;
};

template <class T>
RLMBA_INLINE void compete(RowState<T>& row, MatrixView<const T> centers, std::int64_t j,
                          std::int64_t first_label) {
  const double d = squared_distance(row.x, centers.row(j), centers.cols);
  if (d < row.squared || row.label < 0) {
    row.squared = d;
    row.label = first_label + j;
  }
}

// Compares one row exactly with every center that may be nearest according to its score.
template <class E, class T = typename E::Value>
void refine(RowState<T>& row, const T* products, double norm2, MatrixView<const T> centers,
            const PackedCenters<E>& packed, std::int64_t first_label) {
  using V = typename Tile<T>::Vector;
  const ScoreError<E> error(packed.dim(), norm2, packed.largest());
  constexpr double kSafe = std::numeric_limits<T>::max() / 64;
  if (!(norm2 < kSafe && packed.largest() < kSafe)) {
    for (std::int64_t j = 0; j < centers.rows; ++j) compete(row, centers, j, first_label);
    return;
  }
  const T* half = packed.half_norms();
  const auto score = [&](std::int64_t panel, int lane) __attribute__((always_inline)) {
    return load<V>(half + panel * E::kCols + lane) - load<V>(products + panel * E::kSize + lane);
  };
  const double best = least_score<E>(score, packed.panels());
  double limit = best + 2 * error.score;
  if (row.label >= 0) {
    // Compared with the previous nearest center: |x'|^2 + 2 score is the squared distance.
    const double old =
        0.5 * (row.squared - norm2) + error.score + error.norm + 0x1.0p-52 * row.squared;
    if (old < limit) limit = old;
    if (best > limit) return;
  }
  visit_at_most<E>(score, packed.panels(), centers.rows, limit, [&](std::int64_t j) {
    compete(row, centers, j, first_label);
    return row.squared != 0;
  });
}

template <class T>
std::int64_t direct_pass(MatrixView<const T> x, MatrixView<const T> centers,
                         std::int64_t first_label, double* squared, std::int64_t* labels) {
  std::int64_t bad = x.rows;
  parallel_for(x.rows, chunk_rows(x.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      RowState<T> row{x.row(i), squared[i], labels[i]};
      for (std::int64_t j = 0; j < centers.rows; ++j) compete(row, centers, j, first_label);
      if (!finite(row.squared) && !finite_row(row.x, x.cols)) lower(bad, i);
      squared[i] = row.squared;
      labels[i] = row.label;
    }
  });
  return bad;
}

template <class E, class T = typename E::Value>
std::int64_t product_pass(MatrixView<const T> x, MatrixView<const T> centers,
                          const PackedCenters<E>& packed, std::int64_t first_label, double* squared,
                          std::int64_t* labels) {
  const std::int64_t threads = max_threads();
  // Short inputs are divided more finely, so that every thread gets some rows.
  const std::int64_t share = chunk_count(chunk_count(x.rows, E::kRows), 4 * threads);
  const std::int64_t block = E::kRows * max_i64(1, min_i64(E::kGroups, share));
  const std::int64_t bytes = Workspace<E>::bytes(packed.panels());
  Scratch<unsigned char> memory(threads * bytes);
  std::int64_t bad = x.rows;
  const auto process = [&](std::int64_t begin, std::int64_t end, std::int64_t thread) {
    [[maybe_unused]] typename E::Session session;
    Workspace<E> work(memory.data() + thread * bytes);
    multiply_rows(ShiftedRows<T>{x, packed.shift()}, begin, end, packed, work);
    for (std::int64_t i = begin; i < end; ++i) {
      const double norm2 = work.norms[i - begin];
      RowState<T> row{x.row(i), squared[i], labels[i]};
      if (!finite(norm2) && !finite_row(row.x, x.cols)) {
        lower(bad, i);
        continue;
      }
      const std::int64_t group = (i - begin) / E::kRows;
      const T* products =
          work.products + group * packed.panels() * E::kSize + (i - begin) % E::kRows * E::kCols;
      refine(row, products, norm2, centers, packed, first_label);
      squared[i] = row.squared;
      labels[i] = row.label;
    }
  };
  parallel_for(x.rows, block, threads, process);
  return bad;
}

template <class E, class T = typename E::Value>
std::int64_t product_passes(MatrixView<const T> x, MatrixView<const T> centers,
                            std::int64_t first_label, std::int64_t scratch_bytes, double* squared,
                            std::int64_t* labels) {
  const std::int64_t step = centers_per_pass<E>(x.cols, centers.rows, scratch_bytes);
  PackedCenters<E> packed(step, x.cols);
  std::int64_t bad = x.rows;
  for (std::int64_t begin = 0; begin < centers.rows && bad == x.rows; begin += step) {
    const std::int64_t count = min_i64(step, centers.rows - begin);
    const MatrixView<const T> part{centers.row(begin), count, centers.cols, centers.stride};
    packed.pack(part, true);
    bad = product_pass(x, part, packed, first_label + begin, squared, labels);
  }
  return bad;
}

template <class T>
std::int64_t update_impl(MatrixView<const T> x, MatrixView<const T> centers,
                         std::int64_t first_label, std::int64_t scratch_bytes, double* squared,
                         std::int64_t* labels) {
  std::int64_t bad = x.rows;
  if (centers.rows <= kDirectCenters) {
    bad = direct_pass(x, centers, first_label, squared, labels);
  } else if (tiles_serve<T>(x.cols)) {
#ifdef RLMBA_HAVE_AMX
    if constexpr (sizeof(T) == 4) {
      bad = product_passes<AmxEngine>(x, centers, first_label, scratch_bytes, squared, labels);
    }
#endif
  } else {
    bad = product_passes<VectorEngine<T>>(x, centers, first_label, scratch_bytes, squared, labels);
  }
  return bad == x.rows ? -1 : bad;
}

template <class T>
std::int64_t least_scratch(std::int64_t dim) {
#ifdef RLMBA_HAVE_AMX
  if (tiles_serve<T>(dim)) return pass_bytes<AmxEngine>(dim, AmxEngine::kCols);
#endif
  return pass_bytes<VectorEngine<T>>(dim, Tile<T>::kCols);
}

template <class T>
std::int64_t bad_row_impl(MatrixView<const T> x) {
  std::int64_t bad = x.rows;
  parallel_for(x.rows, chunk_rows(x.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const T* row = x.row(i);
      T sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t p = 0; p < x.cols; ++p) sum += row[p] - row[p];
      if (sum != T(0)) lower(bad, i);
    }
  });
  return bad == x.rows ? -1 : bad;
}

}  // namespace

#define RLMBA_DEFINE_NEAREST(T)                                                              \
  std::int64_t update_nearest(MatrixView<const T> x, MatrixView<const T> centers,            \
                              std::int64_t first_label, std::int64_t scratch_bytes,          \
                              double* squared, std::int64_t* labels) {                       \
    return update_impl(x, centers, first_label, scratch_bytes, squared, labels);             \
  }                                                                                          \
  std::int64_t nearest_scratch(const T*, std::int64_t dim) { return least_scratch<T>(dim); } \
  std::int64_t first_bad_row(MatrixView<const T> x) { return bad_row_impl(x); }

RLMBA_DEFINE_NEAREST(float)
RLMBA_DEFINE_NEAREST(double)

}  // namespace rlmba::RLMBA_ISA

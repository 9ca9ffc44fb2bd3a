#include "rlmba/nearest.hpp"

#include <cmath>
#include <limits>

#include "rlmba/parallel.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/squared_distance.hpp"
#include "rlmba/tile_product.hpp"

namespace rlmba::RLMBA_ISA {
namespace {

// Groups of kTileRows rows that a thread works on at once: about a hundred rows, whose slice of
// kDepth columns stays in the second-level cache beside their products.
constexpr std::int64_t kGroups = 112 / kTileRows;

// Up to this many centers, distances are computed directly: a tile would be mostly empty.
constexpr std::int64_t kDirectCenters = 2;

template <class T>
bool finite(T v) {
  return v - v == T(0);
}

template <class T>
bool finite_row(const T* row, std::int64_t dim) {
  for (std::int64_t i = 0; i < dim; ++i) {
    if (!finite(row[i])) return false;
  }
  return true;
}

template <class T>
std::int64_t panel_count(std::int64_t centers) {
  return chunk_count(centers, Tile<T>::kCols);
}

// Centers minus `shift`, cut into slices of kDepth columns and panels of kCols centers.
template <class T>
class PackedCenters {
 public:
  PackedCenters(std::int64_t capacity, std::int64_t dim)
      : dim_(dim),
        values_(panel_count<T>(capacity) * Tile<T>::kCols * dim),
        half_norms_(panel_count<T>(capacity) * Tile<T>::kCols),
        shift_(dim) {}

  void pack(MatrixView<const T> centers) {
    count_ = centers.rows;
    panels_ = panel_count<T>(count_);
    set_shift(centers);
#pragma omp parallel for schedule(static)
    for (std::int64_t panel = 0; panel < panels_; ++panel) pack_panel(centers, panel);
    largest_ = 0;
    for (std::int64_t j = 0; j < count_; ++j) {
      if (!(half_norms_[j] <= largest_)) largest_ = half_norms_[j];
    }
  }

  const T* panel(std::int64_t column, std::int64_t panel, std::int64_t depth) const {
    return values_.data() + (column * panels_ + panel * depth) * Tile<T>::kCols;
  }
  std::int64_t dim() const { return dim_; }
  std::int64_t count() const { return count_; }
  std::int64_t panels() const { return panels_; }
  const T* half_norms() const { return half_norms_.data(); }
  const T* shift() const { return shift_.data(); }
  // Largest half squared norm of a shifted center: infinite or NaN if one overflows.
  double largest() const { return static_cast<double>(largest_); }

 private:
  void set_shift(MatrixView<const T> centers) {
#pragma omp parallel for schedule(static)
    for (std::int64_t begin = 0; begin < dim_; begin += 64) {
      double sum[64] = {};
      const std::int64_t width = min_i64(64, dim_ - begin);
      for (std::int64_t j = 0; j < centers.rows; ++j) {
        const T* row = centers.row(j) + begin;
        for (std::int64_t i = 0; i < width; ++i) sum[i] += static_cast<double>(row[i]);
      }
      for (std::int64_t i = 0; i < width; ++i) {
        shift_[begin + i] = static_cast<T>(sum[i] / static_cast<double>(centers.rows));
      }
    }
  }

  void pack_panel(MatrixView<const T> centers, std::int64_t panel) {
    constexpr int kCols = Tile<T>::kCols;
    double norms[kCols] = {};
    for (std::int64_t column = 0; column < dim_; column += Tile<T>::kDepth) {
      const std::int64_t depth = min_i64(Tile<T>::kDepth, dim_ - column);
      T* out = values_.data() + (column * panels_ + panel * depth) * kCols;
      for (int c = 0; c < kCols; ++c) {
        const std::int64_t j = panel * kCols + c;
        for (std::int64_t p = 0; p < depth; ++p) {
          const T value = j < count_ ? centers.row(j)[column + p] - shift_[column + p] : T(0);
          norms[c] += static_cast<double>(value) * static_cast<double>(value);
          out[p * kCols + c] = value;
        }
      }
    }
    // An empty column of the last panel must never look nearest.
    for (int c = 0; c < kCols; ++c) {
      half_norms_[panel * kCols + c] = panel * kCols + c < count_
                                           ? static_cast<T>(0.5 * norms[c])
                                           : std::numeric_limits<T>::infinity();
    }
  }

  std::int64_t dim_;
  std::int64_t count_ = 0;
  std::int64_t panels_ = 0;
  T largest_ = 0;
  Scratch<T> values_;
  Scratch<T> half_norms_;
  Scratch<T> shift_;
};

// What one thread needs to compare up to kGroups * kRows rows with the packed centers, in memory
// that was allocated before the parallel region, where running out of it can still be reported.
template <class T>
struct Workspace {
  static constexpr std::int64_t kRows = kGroups * Tile<T>::kRows;

  Workspace(unsigned char* memory)
      : norms(reinterpret_cast<double*>(memory)),
        rows(reinterpret_cast<T*>(memory + norm_bytes())),
        products(reinterpret_cast<T*>(memory + norm_bytes() + row_bytes())) {}

  static std::int64_t bytes(std::int64_t panels) {
    return norm_bytes() + row_bytes() +
           kGroups * panels * Tile<T>::kSize * static_cast<std::int64_t>(sizeof(T));
  }

  double* norms;  // squared norms of the shifted rows
  T* rows;
  T* products;

 private:
  static constexpr std::int64_t norm_bytes() {
    return (kRows * static_cast<std::int64_t>(sizeof(double)) + 63) / 64 * 64;
  }
  static constexpr std::int64_t row_bytes() {
    return kRows * Tile<T>::kStride * static_cast<std::int64_t>(sizeof(T));
  }
};

template <class T>
std::int64_t pass_bytes(std::int64_t dim, std::int64_t centers) {
  const std::int64_t columns = panel_count<T>(centers) * Tile<T>::kCols;
  return static_cast<std::int64_t>(sizeof(T)) * (columns * (dim + 1) + dim) +
         omp_get_max_threads() * Workspace<T>::bytes(panel_count<T>(centers));
}

template <class T>
std::int64_t centers_per_pass(std::int64_t dim, std::int64_t wanted, std::int64_t bytes) {
  std::int64_t count = min_i64(wanted, kCentersPerPass);
  while (count > Tile<T>::kCols && pass_bytes<T>(dim, count) > bytes) count = (count + 1) / 2;
  return count;
}

// One slice of a row minus the shift, and its squared norm.
template <class T>
double pack_row(const T* row, const T* shift, std::int64_t depth, T* out) {
  using V = typename Tile<T>::Vector;
  constexpr int kLanes = Tile<T>::kLanes;
  V acc = V{};
  std::int64_t p = 0;
  for (; p + kLanes <= depth; p += kLanes) {
    const V v = load<V>(row + p) - load<V>(shift + p);
    store(out + p, v);
    acc += v * v;
  }
  T lanes[kLanes];
  store(lanes, acc);
  double sum = 0;
  for (int l = 0; l < kLanes; ++l) sum += static_cast<double>(lanes[l]);
  for (; p < depth; ++p) {
    out[p] = row[p] - shift[p];
    sum += static_cast<double>(out[p]) * static_cast<double>(out[p]);
  }
  return sum;
}

// products of rows [begin, end) of x, shifted, with every packed center.
template <class T>
void multiply_rows(MatrixView<const T> x, std::int64_t begin, std::int64_t end,
                   const PackedCenters<T>& packed, Workspace<T>& work) {
  using S = Tile<T>;
  const std::int64_t count = end - begin;
  const std::int64_t groups = chunk_count(count, S::kRows);
  for (std::int64_t r = 0; r < count; ++r) work.norms[r] = 0;
  for (std::int64_t column = 0; column < packed.dim(); column += S::kDepth) {
    const std::int64_t depth = min_i64(S::kDepth, packed.dim() - column);
    for (std::int64_t r = 0; r < count; ++r) {
      work.norms[r] += pack_row(x.row(begin + r) + column, packed.shift() + column, depth,
                                &work.rows[r * S::kStride]);
    }
    for (std::int64_t r = count; r < groups * S::kRows; ++r) {
      for (std::int64_t p = 0; p < depth; ++p) work.rows[r * S::kStride + p] = T(0);
    }
    for (std::int64_t panel = 0; panel < packed.panels(); ++panel) {
      const T* b = packed.panel(column, panel, depth);
      for (std::int64_t g = 0; g < groups; ++g) {
        multiply_tile(&work.rows[g * S::kRows * S::kStride], b, depth, column > 0,
                      &work.products[(g * packed.panels() + panel) * S::kSize]);
      }
    }
  }
}

// Bounds on the rounding of what multiply_rows found. A score is |c'|^2 / 2 - x'.c', c' and x'
// shifted; u is the unit roundoff. A product summed in slices of kDepth errs by at most (kDepth +
// slices) u |x'| |c'|, rounding the shifted values adds 2 u |x'| |c'|, the half norm and the
// subtraction the rest; two more and the factor 1.01 cover terms of higher order. Last comes the
// rounding of the exact distances themselves, so that what they decide among does not depend on the
// shift.
template <class T>
struct ScoreError {
  double score;  // of one score
  double norm;   // of half the squared norm of the row

  ScoreError(std::int64_t dim, double row_norm2, double largest_half_norm) {
    constexpr double u = std::numeric_limits<T>::epsilon() / 2;
    constexpr double tiny = std::numeric_limits<T>::denorm_min();
    const double depth = static_cast<double>(min_i64(dim, Tile<T>::kDepth));
    const double slices = static_cast<double>(chunk_count(dim, Tile<T>::kDepth));
    const double product = std::sqrt(2 * row_norm2 * largest_half_norm);
    const double width = static_cast<double>(dim);
    const double distance = 0x1.0p-53 * (width / 16 + 8) * 2 * (row_norm2 + 2 * largest_half_norm);
    score = 1.01 * (u * ((depth + slices + 6) * product + 4 * largest_half_norm) + distance +
                    4 * tiny * width);
    norm = 1.01 * (u * (depth / Tile<T>::kLanes + 6) * row_norm2 + 4 * tiny * width);
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

// Compares one row exactly with every center whose score says that it may be nearest.
template <class T>
void refine(RowState<T>& row, const T* products, double norm2, MatrixView<const T> centers,
            const PackedCenters<T>& packed, std::int64_t first_label) {
  using S = Tile<T>;
  using V = typename S::Vector;
  const ScoreError<T> error(packed.dim(), norm2, packed.largest());
  constexpr double kSafe = std::numeric_limits<T>::max() / 64;
  if (!(norm2 < kSafe && packed.largest() < kSafe)) {
    for (std::int64_t j = 0; j < centers.rows; ++j) compete(row, centers, j, first_label);
    return;
  }
  V least = std::numeric_limits<T>::max() - V{};
  const T* half = packed.half_norms();
  for (std::int64_t panel = 0; panel < packed.panels(); ++panel) {
    for (int v = 0; v < 2; ++v) {
      const V score = load<V>(half + panel * S::kCols + v * S::kLanes) -
                      load<V>(products + panel * S::kSize + v * S::kLanes);
      least = score < least ? score : least;
    }
  }
  double best = static_cast<double>(least[0]);
  for (int l = 1; l < S::kLanes; ++l) {
    if (static_cast<double>(least[l]) < best) best = static_cast<double>(least[l]);
  }
  double limit = best + 2 * error.score;
  if (row.label >= 0) {
    // Against what was met before: |x'|^2 + 2 score is the squared distance.
    const double old =
        0.5 * (row.squared - norm2) + error.score + error.norm + 0x1.0p-52 * row.squared;
    if (old < limit) limit = old;
    if (best > limit) return;
  }
  // Rounded up to T, so that the comparison in T lets nothing slip.
  const T ceiling = std::nextafter(static_cast<T>(limit), std::numeric_limits<T>::infinity());
  const V bound = ceiling - V{};
  for (std::int64_t panel = 0; panel < packed.panels(); ++panel) {
    const T* h = half + panel * S::kCols;
    const T* c = products + panel * S::kSize;
    const V first = load<V>(h) - load<V>(c);
    const V second = load<V>(h + S::kLanes) - load<V>(c + S::kLanes);
    if (!any_at_most<T>(first < second ? first : second, bound)) continue;
    for (int l = 0; l < S::kCols; ++l) {
      const std::int64_t j = panel * S::kCols + l;
      if (j < centers.rows && h[l] - c[l] <= ceiling) compete(row, centers, j, first_label);
    }
    if (row.squared == 0) return;
  }
}

template <class T>
std::int64_t direct_pass(MatrixView<const T> x, MatrixView<const T> centers,
                         std::int64_t first_label, double* squared, std::int64_t* labels) {
  std::int64_t bad = x.rows;
#pragma omp parallel for schedule(static) reduction(min : bad)
  for (std::int64_t i = 0; i < x.rows; ++i) {
    RowState<T> row{x.row(i), squared[i], labels[i]};
    for (std::int64_t j = 0; j < centers.rows; ++j) compete(row, centers, j, first_label);
    if (!finite(row.squared) && !finite_row(row.x, x.cols)) bad = min_i64(bad, i);
    squared[i] = row.squared;
    labels[i] = row.label;
  }
  return bad;
}

template <class T>
std::int64_t product_pass(MatrixView<const T> x, MatrixView<const T> centers,
                          const PackedCenters<T>& packed, std::int64_t first_label, double* squared,
                          std::int64_t* labels) {
  using S = Tile<T>;
  const std::int64_t threads = omp_get_max_threads();
  // Short inputs are cut finer, so that every thread has some.
  const std::int64_t share = chunk_count(chunk_count(x.rows, S::kRows), 4 * threads);
  const std::int64_t block = S::kRows * max_i64(1, min_i64(kGroups, share));
  const std::int64_t bytes = (Workspace<T>::bytes(packed.panels()) + 63) / 64 * 64;
  Scratch<unsigned char> memory(threads * bytes);
  std::int64_t bad = x.rows;
#pragma omp parallel num_threads(static_cast<int>(threads)) reduction(min : bad)
  {
    Workspace<T> work(memory.data() + omp_get_thread_num() * bytes);
#pragma omp for schedule(dynamic)
    for (std::int64_t begin = 0; begin < x.rows; begin += block) {
      const std::int64_t end = min_i64(begin + block, x.rows);
      multiply_rows(x, begin, end, packed, work);
      for (std::int64_t i = begin; i < end; ++i) {
        const double norm2 = work.norms[i - begin];
        RowState<T> row{x.row(i), squared[i], labels[i]};
        if (!finite(norm2) && !finite_row(row.x, x.cols)) {
          bad = min_i64(bad, i);
          continue;
        }
        const std::int64_t group = (i - begin) / S::kRows;
        const T* products =
            &work.products[group * packed.panels() * S::kSize + (i - begin) % S::kRows * S::kCols];
        refine(row, products, norm2, centers, packed, first_label);
        squared[i] = row.squared;
        labels[i] = row.label;
      }
    }
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
  } else {
    const std::int64_t step = centers_per_pass<T>(x.cols, centers.rows, scratch_bytes);
    PackedCenters<T> packed(step, x.cols);
    for (std::int64_t begin = 0; begin < centers.rows && bad == x.rows; begin += step) {
      const std::int64_t count = min_i64(step, centers.rows - begin);
      const MatrixView<const T> part{centers.row(begin), count, centers.cols, centers.stride};
      packed.pack(part);
      bad = product_pass(x, part, packed, first_label + begin, squared, labels);
    }
  }
  return bad == x.rows ? -1 : bad;
}

template <class T>
std::int64_t bad_row_impl(MatrixView<const T> x) {
  std::int64_t bad = x.rows;
#pragma omp parallel for schedule(static) reduction(min : bad)
  for (std::int64_t i = 0; i < x.rows; ++i) {
    const T* row = x.row(i);
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t p = 0; p < x.cols; ++p) sum += row[p] - row[p];
    if (sum != T(0)) bad = min_i64(bad, i);
  }
  return bad == x.rows ? -1 : bad;
}

}  // namespace

#define RLMBA_DEFINE_NEAREST(T)                                                     \
  std::int64_t update_nearest(MatrixView<const T> x, MatrixView<const T> centers,   \
                              std::int64_t first_label, std::int64_t scratch_bytes, \
                              double* squared, std::int64_t* labels) {              \
    return update_impl(x, centers, first_label, scratch_bytes, squared, labels);    \
  }                                                                                 \
  std::int64_t nearest_scratch(const T*, std::int64_t dim) {                        \
    return pass_bytes<T>(dim, Tile<T>::kCols);                                      \
  }                                                                                 \
  std::int64_t first_bad_row(MatrixView<const T> x) { return bad_row_impl(x); }

RLMBA_DEFINE_NEAREST(float)
RLMBA_DEFINE_NEAREST(double)

}  // namespace rlmba::RLMBA_ISA

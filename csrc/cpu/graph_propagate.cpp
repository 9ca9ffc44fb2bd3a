#include <cmath>

#include "rlmba/graph.hpp"
#include "rlmba/parallel.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/tile_product.hpp"

namespace rlmba::RLMBA_ISA {
namespace {

// Rows per partial sum; partial sums are then added in order.
constexpr std::int64_t kSumRows = 1024;
// Columns of values processed at once, which bounds the memory for X^T values.
constexpr std::int64_t kColumns = 128;
// Parts of the rows whose X^T values are summed separately.
constexpr std::int64_t kParts = 32;

template <class T>
double largest_magnitude(const T* row, std::int64_t dim) {
  T largest = 0;
  for (std::int64_t p = 0; p < dim; ++p) {
    const T v = row[p] < 0 ? -row[p] : row[p];
    largest = v > largest ? v : largest;
  }
  return static_cast<double>(largest);
}

// 1 / |row|, computed so that squares neither overflow nor underflow.
template <class T>
double inverse_norm(const T* row, std::int64_t dim) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t p = 0; p < dim; ++p) {
    sum += static_cast<double>(row[p]) * static_cast<double>(row[p]);
  }
  if (sum > 0x1p-900 && sum < 0x1p900) return 1.0 / std::sqrt(sum);
  const double largest = largest_magnitude(row, dim);
  if (largest == 0) return 0;
  sum = 0;
  for (std::int64_t p = 0; p < dim; ++p) {
    const double v = static_cast<double>(row[p]) / largest;
    sum += v * v;
  }
  return 1.0 / std::sqrt(sum) / largest;
}

template <class T>
std::int64_t norms_impl(MatrixView<const T> x, double* inverse_norms, double* sums,
                        bool* nonnegative) {
  const std::int64_t parts = chunk_count(x.rows, kSumRows);
  Scratch<double> partial(parts * x.cols);
  std::int64_t bad = x.rows;
  std::int64_t least = 0;  // below 0 if any value is
  parallel_for(x.rows, kSumRows, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t part = begin / kSumRows;
    int below_any = 0;
    double* sum = partial.data() + part * x.cols;
    for (std::int64_t p = 0; p < x.cols; ++p) sum[p] = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      const T* row = x.row(i);
      T broken = 0;
      int below = 0;
#pragma omp simd reduction(+ : broken) reduction(| : below)
      for (std::int64_t p = 0; p < x.cols; ++p) {
        broken += row[p] - row[p];
        below |= row[p] < T(0);
      }
      if (broken != T(0)) {
        lower(bad, i);
        break;
      }
      below_any |= below;
      const double inverse = inverse_norms[i] = inverse_norm(row, x.cols);
      for (std::int64_t p = 0; p < x.cols; ++p) sum[p] += inverse * static_cast<double>(row[p]);
    }
    if (below_any) lower(least, -1);
  });
  if (bad < x.rows) return bad;
  for (std::int64_t p = 0; p < x.cols; ++p) sums[p] = 0;
  for (std::int64_t part = 0; part < parts; ++part) {
    const double* sum = partial.data() + part * x.cols;
    for (std::int64_t p = 0; p < x.cols; ++p) sums[p] += sum[p];
  }
  *nonnegative = least == 0;
  return -1;
}

template <class T>
void degrees_impl(MatrixView<const T> x, const double* inverse_norms, const double* sums,
                  double* degrees) {
  parallel_for(x.rows, chunk_rows(x.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const T* row = x.row(i);
      const double inverse = inverse_norms[i];
      double sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t p = 0; p < x.cols; ++p) {
        sum += inverse * static_cast<double>(row[p]) * sums[p];
      }
      degrees[i] = sum - (inverse > 0 ? 1.0 : 0.0);
    }
  });
}

template <class T>
void normalized(const T* row, double inverse, std::int64_t dim, T* out) {
  for (std::int64_t p = 0; p < dim; ++p)
    out[p] = static_cast<T>(inverse * static_cast<double>(row[p]));
}

// A product with columns [begin, begin + cols) of the values.
template <class T>
class Apply {
  using E = VectorEngine<T>;
  static constexpr std::int64_t kRows = E::kRows;
  static constexpr std::int64_t kCols = E::kCols;
  static constexpr std::int64_t kBlock = E::kDepth / kRows * kRows;

 public:
  Apply(MatrixView<const T> x, const Graph& graph)
      : x_(x),
        graph_(graph),
        blocks_(chunk_count(x.rows, kBlock)),
        parts_(min_i64(kParts, blocks_)),
        panels_(chunk_count(x.cols, kCols)),
        product_((kColumns + kRows) * panels_ * kCols),
        constant_(kColumns),
        packed_(chunk_count(kColumns, kCols) * kCols * slices() * E::kDepth) {}

  void run(MatrixView<const T> values, MatrixView<T> out, std::int64_t begin, std::int64_t cols) {
    collect(values, begin, cols);
    pack(cols);
    spread(values, out, begin, cols);
  }

 private:
  std::int64_t slices() const { return chunk_count(x_.cols, E::kDepth); }

  // product_ [cols, panels_ * kCols] = (values / d)^T X, constant_ [cols] = the sums of values / d.
  void collect(MatrixView<const T> values, std::int64_t begin, std::int64_t cols) {
    const std::int64_t groups = chunk_count(cols, kRows);
    const std::int64_t tiles = groups * panels_;
    const std::int64_t size = tiles * E::kSize;
    Scratch<double> sums(parts_ * size);
    Scratch<double> constants(parts_ * cols);
    const std::int64_t threads = max_threads();
    const std::int64_t room = kBlock * (panels_ * kCols) + groups * kRows * Tile<T>::kStride;
    Scratch<T> scratch(threads * room);
    parallel_for(parts_, 1, threads, [&](std::int64_t part, std::int64_t, std::int64_t thread) {
      T* right = scratch.data() + thread * room;
      T* left = right + kBlock * panels_ * kCols;
      double* sum = sums.data() + part * size;
      double* constant = constants.data() + part * cols;
      for (std::int64_t e = 0; e < size; ++e) sum[e] = 0;
      for (std::int64_t k = 0; k < cols; ++k) constant[k] = 0;
      const std::int64_t last = (part + 1) * blocks_ / parts_;
      for (std::int64_t block = part * blocks_ / parts_; block < last; ++block) {
        const std::int64_t row = block * kBlock;
        const std::int64_t depth = min_i64(kBlock, x_.rows - row);
        pack_rows(row, depth, right);
        pack_values(values, row, depth, begin, cols, left, constant);
        for (std::int64_t tile = 0; tile < tiles; ++tile) {
          T c[E::kSize];
          multiply_tile(left + tile % groups * kRows * Tile<T>::kStride,
                        right + tile / groups * depth * kCols, depth, false, c);
          double* to = sum + tile * E::kSize;
          for (std::int64_t e = 0; e < E::kSize; ++e) to[e] += static_cast<double>(c[e]);
        }
      }
    });
    for (std::int64_t k = 0; k < cols; ++k) {
      constant_[k] = 0;
      for (std::int64_t part = 0; part < parts_; ++part) constant_[k] += constants[part * cols + k];
    }
    parallel_for(tiles, 8, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t tile = first; tile < last; ++tile) {
        for (std::int64_t e = 0; e < E::kSize; ++e) {
          double total = 0;
          for (std::int64_t part = 0; part < parts_; ++part) {
            total += sums[part * size + tile * E::kSize + e];
          }
          const std::int64_t k = tile % groups * kRows + e / kCols;
          product_[(k * panels_ + tile / groups) * kCols + e % kCols] = static_cast<T>(total);
        }
      }
    });
  }

  // Rows as panels of kCols columns, one row after another.
  void pack_rows(std::int64_t row, std::int64_t depth, T* out) const {
    for (std::int64_t i = 0; i < depth; ++i) {
      const T* from = x_.row(row + i);
      const double inverse = graph_.inverse_norms[row + i];
      for (std::int64_t panel = 0; panel < panels_; ++panel) {
        T* to = out + (panel * depth + i) * kCols;
        const std::int64_t count = min_i64(kCols, x_.cols - panel * kCols);
        normalized(from + panel * kCols, inverse, count, to);
        for (std::int64_t p = count; p < kCols; ++p) to[p] = T(0);
      }
    }
  }

  void pack_values(MatrixView<const T> values, std::int64_t row, std::int64_t depth,
                   std::int64_t begin, std::int64_t cols, T* out, double* constant) const {
    for (std::int64_t i = 0; i < depth; ++i) {
      const T* from = values.row(row + i) + begin;
      const double inverse = graph_.inverse_degrees[row + i];
      for (std::int64_t k = 0; k < cols; ++k) {
        const double v = inverse * static_cast<double>(from[k]);
        constant[k] += v;
        out[k * Tile<T>::kStride + i] = static_cast<T>(v);
      }
    }
    for (std::int64_t k = cols; k % kRows != 0; ++k) {
      for (std::int64_t i = 0; i < depth; ++i) out[k * Tile<T>::kStride + i] = T(0);
    }
  }

  void pack(std::int64_t cols) {
    const std::int64_t panels = chunk_count(cols, kCols);
    for (std::int64_t slice = 0; slice < slices(); ++slice) {
      const std::int64_t depth = min_i64(E::kDepth, x_.cols - slice * E::kDepth);
      for (std::int64_t k = 0; k < panels * kCols; ++k) {
        T* to = packed_.data() + (slice * panels + k / kCols) * E::kDepth * kCols + k % kCols;
        const T* from = product_.data() + k * panels_ * kCols + slice * E::kDepth;
        for (std::int64_t p = 0; p < depth; ++p) to[p * kCols] = k < cols ? from[p] : T(0);
      }
    }
  }

  // out = w (X product_ + c constant_) + (1 - self) values.
  void spread(MatrixView<const T> values, MatrixView<T> out, std::int64_t begin,
              std::int64_t cols) const {
    const std::int64_t panels = chunk_count(cols, kCols);
    const double w = graph_.weight();
    parallel_for(x_.rows, kRows, [&](std::int64_t first, std::int64_t end) {
      T rows[kRows * Tile<T>::kStride];
      T c[kColumns * kRows];
      const std::int64_t count = end - first;
      for (std::int64_t slice = 0; slice < slices(); ++slice) {
        const std::int64_t column = slice * E::kDepth;
        const std::int64_t depth = min_i64(E::kDepth, x_.cols - column);
        for (std::int64_t r = 0; r < kRows; ++r) {
          T* to = rows + r * Tile<T>::kStride;
          if (r < count) {
            normalized(x_.row(first + r) + column, graph_.inverse_norms[first + r], depth, to);
          } else {
            for (std::int64_t p = 0; p < depth; ++p) to[p] = T(0);
          }
        }
        for (std::int64_t panel = 0; panel < panels; ++panel) {
          multiply_tile(rows, packed_.data() + (slice * panels + panel) * E::kDepth * kCols, depth,
                        slice > 0, c + panel * E::kSize);
        }
      }
      for (std::int64_t r = 0; r < count; ++r) {
        const double keep = 1.0 - graph_.self(first + r);
        const T* own = values.row(first + r) + begin;
        T* to = out.row(first + r) + begin;
        for (std::int64_t k = 0; k < cols; ++k) {
          double sum = static_cast<double>(c[k / kCols * E::kSize + r * kCols + k % kCols]);
          if (graph_.shifted) sum += constant_[k];
          to[k] = static_cast<T>(w * sum + keep * static_cast<double>(own[k]));
        }
      }
    });
  }

  MatrixView<const T> x_;
  Graph graph_;
  std::int64_t blocks_;
  std::int64_t parts_;
  std::int64_t panels_;
  Scratch<T> product_;
  Scratch<double> constant_;
  Scratch<T> packed_;
};

template <class T>
void apply_impl(MatrixView<const T> x, const Graph& graph, MatrixView<const T> values,
                MatrixView<T> out) {
  if (x.rows == 0 || values.cols == 0) return;
  Apply<T> apply(x, graph);
  for (std::int64_t begin = 0; begin < values.cols; begin += kColumns) {
    apply.run(values, out, begin, min_i64(kColumns, values.cols - begin));
  }
}

template <class T>
void normalize_impl(MatrixView<const T> x, const double* inverse_norms, MatrixView<T> out) {
  parallel_for(x.rows, chunk_rows(x.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      normalized(x.row(i), inverse_norms[i], x.cols, out.row(i));
    }
  });
}

}  // namespace

#define RLMBA_DEFINE_GRAPH(T)                                                                  \
  std::int64_t graph_norms(MatrixView<const T> x, double* inverse_norms, double* sums,         \
                           bool* nonnegative) {                                                \
    return norms_impl(x, inverse_norms, sums, nonnegative);                                    \
  }                                                                                            \
  void graph_degrees(MatrixView<const T> x, const double* inverse_norms, const double* sums,   \
                     double* degrees) {                                                        \
    degrees_impl(x, inverse_norms, sums, degrees);                                             \
  }                                                                                            \
  void normalize_rows(MatrixView<const T> x, const double* inverse_norms, MatrixView<T> out) { \
    normalize_impl(x, inverse_norms, out);                                                     \
  }                                                                                            \
  void graph_apply(MatrixView<const T> x, Graph graph, MatrixView<const T> values,             \
                   MatrixView<T> out) {                                                        \
    apply_impl(x, graph, values, out);                                                         \
  }
RLMBA_DEFINE_GRAPH(float)
RLMBA_DEFINE_GRAPH(double)
#undef RLMBA_DEFINE_GRAPH

}  // namespace rlmba::RLMBA_ISA

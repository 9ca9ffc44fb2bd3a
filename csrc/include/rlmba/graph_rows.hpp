#pragma once

#include <cstdint>
#include <cstring>

#include "rlmba/parallel.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/tile_product.hpp"
#include "rlmba/view.hpp"

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// Row operations of graph network training besides matrix products: products with a vector, sums
// over rows in a fixed order, and bit masks of many rows.

RLMBA_INLINE std::int64_t round_up(std::int64_t n, std::int64_t to) {
  return chunk_count(n, to) * to;
}

inline double dot(const double* a, const double* b, std::int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// Rows are processed four at a time: four sums hide the latency of one and share an operand.
constexpr std::int64_t kRowsAtOnce = 4;

// out[j] = row j . v, for `count` rows, 1 to kRowsAtOnce.
template <class T>
void dot_rows(MatrixView<const T> x, std::int64_t first, std::int64_t count, const T* v, T* out) {
  using V = typename Tile<T>::Vector;
  constexpr std::int64_t kLanes = Tile<T>::kLanes;
  const T* rows[kRowsAtOnce];
  for (std::int64_t j = 0; j < kRowsAtOnce; ++j) rows[j] = x.row(first + (j < count ? j : 0));
  V sums[kRowsAtOnce] = {};
  std::int64_t p = 0;
  for (; p + kLanes <= x.cols; p += kLanes) {
    const V other = load<V>(v + p);
#pragma GCC unroll 4
    for (int j = 0; j < kRowsAtOnce; ++j) sums[j] += load<V>(rows[j] + p) * other;
  }
  for (std::int64_t j = 0; j < count; ++j) {
    T sum = 0;
    for (int lane = 0; lane < kLanes; ++lane) sum += sums[j][lane];
    for (std::int64_t q = p; q < x.cols; ++q) sum += rows[j][q] * v[q];
    out[j] = sum;
  }
}

// to += sum_j factors[j] * row j, for `count` rows, 1 to kRowsAtOnce.
template <class T>
void add_rows(MatrixView<const T> x, std::int64_t first, std::int64_t count, const T* factors,
              T* to) {
  using V = typename Tile<T>::Vector;
  constexpr std::int64_t kLanes = Tile<T>::kLanes;
  const T* rows[kRowsAtOnce];
  T scaled[kRowsAtOnce];
  for (std::int64_t j = 0; j < kRowsAtOnce; ++j) {
    rows[j] = x.row(first + (j < count ? j : 0));
    scaled[j] = j < count ? factors[j] : T(0);
  }
  std::int64_t p = 0;
  for (; p + kLanes <= x.cols; p += kLanes) {
    V sum = load<V>(to + p);
#pragma GCC unroll 4
    for (int j = 0; j < kRowsAtOnce; ++j) sum += load<V>(rows[j] + p) * scaled[j];
    store(to + p, sum);
  }
  for (; p < x.cols; ++p) {
    for (std::int64_t j = 0; j < kRowsAtOnce; ++j) to[p] += rows[j][p] * scaled[j];
  }
}

// Packs eight bytes of 0 or 1 into the bits of one byte; the first byte becomes the lowest bit.
RLMBA_INLINE std::uint32_t gather_bits(const std::uint8_t* bytes) {
  std::uint64_t v;
  std::memcpy(&v, bytes, 8);
  return static_cast<std::uint32_t>((v * 0x0102040810204080ULL) >> 56);
}

// Bit j of word k becomes bit k of word j.
inline void transpose_bits(std::uint32_t* a) {
  std::uint32_t mask = 0x0000FFFFu;
  for (int half = 16; half != 0; half >>= 1, mask ^= mask << half) {
    for (int k = 0; k < 32; k = ((k | half) + 1) & ~half) {
      const std::uint32_t swap = ((a[k] >> half) ^ a[k | half]) & mask;
      a[k] ^= swap << half;
      a[k | half] ^= swap;
    }
  }
}

// Subtracts the mean [cols] from the rows. A row of A X is an average of all rows plus the row
// itself, so the rows are similar. Without the common mean, products lose less to rounding.
template <class T>
void remove_mean(MatrixView<T> rows, std::int64_t count, std::int64_t cols, double* mean) {
  constexpr std::int64_t kColumns = 64;
  parallel_for(cols, kColumns, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t width = end - begin;
    double sum[kColumns] = {};
    for (std::int64_t i = 0; i < count; ++i) {
      const T* row = rows.row(i) + begin;
      for (std::int64_t p = 0; p < width; ++p) sum[p] += static_cast<double>(row[p]);
    }
    // Rounded to T, so that subtracting it and adding it back cancel.
    for (std::int64_t p = 0; p < width; ++p) {
      mean[begin + p] = static_cast<double>(static_cast<T>(sum[p] / static_cast<double>(count)));
    }
    for (std::int64_t i = 0; i < count; ++i) {
      T* row = rows.row(i) + begin;
      for (std::int64_t p = 0; p < width; ++p) row[p] -= static_cast<T>(mean[begin + p]);
    }
  });
}

// A sum over rows of values [n]: parts in T, block by block added up in double precision.
template <class T>
class ColumnSums {
 public:
  ColumnSums(std::int64_t n, std::int64_t parts)
      : n_(n), parts_(parts), partial_(parts * n), total(n) {}

  void clear(std::int64_t part) const {
    for (std::int64_t p = 0; p < n_; ++p) partial_[part * n_ + p] = 0;
  }
  void add(std::int64_t part, const T* values) const {
    double* to = partial_.data() + part * n_;
    for (std::int64_t p = 0; p < n_; ++p) to[p] += static_cast<double>(values[p]);
  }
  void finish() const {
    for (std::int64_t p = 0; p < n_; ++p) {
      double sum = 0;
      for (std::int64_t part = 0; part < parts_; ++part) sum += partial_[part * n_ + p];
      total[p] = static_cast<T>(sum);
    }
  }

 private:
  std::int64_t n_;
  std::int64_t parts_;
  Scratch<double> partial_;

 public:
  Scratch<T> total;
};

}  // namespace rlmba::RLMBA_ISA
#endif

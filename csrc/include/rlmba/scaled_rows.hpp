#pragma once

#include <cmath>
#include <cstdint>

#include "rlmba/modality_rows.hpp"
#include "rlmba/parallel.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/view.hpp"

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// The shift and scale that map all rows to float rows of norm at most 1.
template <class T>
class RowScale {
 public:
  explicit RowScale(const ModalityRows<T>& rows)
      : offsets_(rows.modalities + 1), shift_(rows.width()) {
    offsets_[0] = 0;
    for (std::int64_t m = 0; m < rows.modalities; ++m) {
      offsets_[m + 1] = offsets_[m] + rows.parts[m].cols;
      set_shift(rows, m);
    }
  }

  // Largest squared norm of a shifted row in one modality; infinite if it overflows.
  double include(const ModalityRows<T>& rows) {
    const auto greater = [](double a, double b) { return b > a ? b : a; };
    const auto part = [&](std::int64_t begin, std::int64_t end) {
      double largest = 0;
      for (std::int64_t i = begin; i < end; ++i) {
        for (std::int64_t m = 0; m < rows.modalities; ++m) {
          if (!rows.has(i, m)) continue;
          const T* x = rows.parts[m].row(i);
          const double* shift = this->shift(m);
          double sum = 0;
#pragma omp simd reduction(+ : sum)
          for (std::int64_t p = 0; p < rows.parts[m].cols; ++p) {
            const double v = static_cast<double>(x[p]) - shift[p];
            sum += v * v;
          }
          largest = greater(largest, sum);
        }
      }
      return largest;
    };
    return largest_ =
               parallel_reduce(rows.rows(), chunk_rows(rows.width()), largest_, part, greater);
  }

  const double* shift(std::int64_t m) const { return shift_.data() + offsets_[m]; }
  std::int64_t offset(std::int64_t m) const { return offsets_[m]; }
  double factor() const { return largest_ > 0 ? 1 / std::sqrt(largest_) : 1; }
  // Factor of squared distances.
  double squared() const { return largest_ > 0 ? 1 / largest_ : 1; }

 private:
  // The mean of about a thousand rows, because rounding errors of products grow with the norms of
  // the shifted rows.
  void set_shift(const ModalityRows<T>& rows, std::int64_t m) {
    double* shift = shift_.data() + offsets_[m];
    const std::int64_t cols = rows.parts[m].cols;
    for (std::int64_t p = 0; p < cols; ++p) shift[p] = 0;
    const std::int64_t step = max_i64(1, rows.rows() / 1024);
    double count = 0;
    for (std::int64_t i = 0; i < rows.rows(); i += step) {
      if (!rows.has(i, m)) continue;
      ++count;
      // A running mean, so that large numbers do not overflow.
      const T* x = rows.parts[m].row(i);
      for (std::int64_t p = 0; p < cols; ++p) {
        shift[p] += static_cast<double>(x[p]) / count - shift[p] / count;
      }
    }
  }

  Scratch<std::int64_t> offsets_;
  Scratch<double> shift_;
  double largest_ = 0;
};

// Shifted and scaled rows at `positions` as the source of multiply_rows (row_products.hpp). In each
// modality, rows are multiplied by `factors`, 0 for a modality that takes no part.
template <class T>
struct ScaledRows {
  const ModalityRows<T>& rows;
  const RowScale<T>& scale;
  const double* factors;
  const std::int64_t* positions;

  const float* slice(std::int64_t row, std::int64_t column, std::int64_t depth, float* buffer,
                     double* norm2) const {
    double total = 0;
    for (std::int64_t m = 0; m < rows.modalities; ++m) {
      const std::int64_t begin = max_i64(scale.offset(m), column);
      const std::int64_t end = min_i64(scale.offset(m + 1), column + depth);
      if (begin >= end) continue;
      float* out = buffer + (begin - column);
      const std::int64_t count = end - begin;
      const double factor = factors[m];
      if (factor == 0) {
        for (std::int64_t p = 0; p < count; ++p) out[p] = 0;
        continue;
      }
      const std::int64_t from = begin - scale.offset(m);
      const T* x = rows.parts[m].row(positions[row]) + from;
      const double* shift = scale.shift(m) + from;
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t p = 0; p < count; ++p) {
        out[p] = static_cast<float>((static_cast<double>(x[p]) - shift[p]) * factor);
        sum += out[p] * out[p];
      }
      total += static_cast<double>(sum);
    }
    *norm2 += total;
    return buffer;
  }
};

}  // namespace rlmba::RLMBA_ISA
#endif

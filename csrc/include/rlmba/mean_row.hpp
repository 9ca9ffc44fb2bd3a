#pragma once

#include <cstdint>

#include "rlmba/parallel.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/view.hpp"

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// Sums of the columns, over chunks of kReductionRows and then over the chunks in order, for any
// number of threads.
template <class T>
void sum_rows(MatrixView<const T> x, double* total) {
  constexpr std::int64_t kChunksAtOnce = 64;
  const std::int64_t chunks = chunk_count(x.rows, kReductionRows);
  Scratch<double> sums(min_i64(kChunksAtOnce, chunks) * x.cols);
  for (std::int64_t p = 0; p < x.cols; ++p) total[p] = 0;
  for (std::int64_t group = 0; group < chunks; group += kChunksAtOnce) {
    const std::int64_t count = min_i64(kChunksAtOnce, chunks - group);
    parallel_for(count, 1, [&](std::int64_t c, std::int64_t) {
      double* sum = &sums[c * x.cols];
      for (std::int64_t p = 0; p < x.cols; ++p) sum[p] = 0;
      const std::int64_t begin = (group + c) * kReductionRows;
      for (std::int64_t i = begin; i < min_i64(begin + kReductionRows, x.rows); ++i) {
        const T* row = x.row(i);
        for (std::int64_t p = 0; p < x.cols; ++p) sum[p] += static_cast<double>(row[p]);
      }
    });
    for (std::int64_t c = 0; c < count; ++c) {
      for (std::int64_t p = 0; p < x.cols; ++p) total[p] += sums[c * x.cols + p];
    }
  }
}

// Squared distance of a row to a mean in double precision, summed as in squared_distance.
template <class T>
double distance_to_mean(const T* row, const double* mean, std::int64_t dim) {
  double lanes[16] = {};
  const auto add = [&](std::int64_t i, int l) __attribute__((always_inline)) {
    const double d = static_cast<double>(row[i + l]) - mean[i + l];
    lanes[l] += d * d;
  };
  std::int64_t i = 0;
  for (; i + 16 <= dim; i += 16) {
    for (int l = 0; l < 16; ++l) add(i, l);
  }
  for (int l = 0; i + l < dim; ++l) add(i, l);
  for (int half = 8; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

// The row nearest to a mean, the lowest on ties, and its squared distance to it.
template <class T>
std::int64_t nearest_row(MatrixView<const T> x, const double* mean, double* least) {
  const std::int64_t chunks = chunk_count(x.rows, kReductionRows);
  Scratch<double> squared(chunks);
  Scratch<std::int64_t> positions(chunks);
  parallel_for(x.rows, kReductionRows, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t c = begin / kReductionRows;
    squared[c] = distance_to_mean(x.row(begin), mean, x.cols);
    positions[c] = begin;
    for (std::int64_t i = begin + 1; i < end; ++i) {
      const double d = distance_to_mean(x.row(i), mean, x.cols);
      if (!(d < squared[c])) continue;
      squared[c] = d;
      positions[c] = i;
    }
  });
  std::int64_t best = 0;
  for (std::int64_t c = 1; c < chunks; ++c) {
    if (squared[c] < squared[best]) best = c;
  }
  *least = squared[best];
  return positions[best];
}

// The row nearest to the mean of all rows, the lowest on ties; -1 if that mean is not finite.
template <class T>
std::int64_t nearest_to_mean(MatrixView<const T> x) {
  Scratch<double> mean(x.cols);
  sum_rows(x, mean.data());
  for (std::int64_t i = 0; i < x.cols; ++i) {
    mean[i] /= static_cast<double>(x.rows);
    if (!(mean[i] - mean[i] == 0)) return -1;
  }
  double least;
  return nearest_row(x, mean.data(), &least);
}

}  // namespace rlmba::RLMBA_ISA
#endif

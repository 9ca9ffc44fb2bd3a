#include "rlmba/kmeans.hpp"
#include "rlmba/parallel.hpp"
#include "rlmba/scratch.hpp"

namespace rlmba::RLMBA_ISA {
namespace {

constexpr std::int64_t kColumns = 256;

template <class T>
void means_impl(MatrixView<const T> x, const std::int64_t* labels, MatrixView<T> centers) {
  const std::int64_t k = centers.rows;
  Scratch<std::int64_t> begin(k + 1);
  for (std::int64_t c = 0; c <= k; ++c) begin[c] = 0;
  for (std::int64_t i = 0; i < x.rows; ++i) ++begin[labels[i] + 1];
  for (std::int64_t c = 0; c < k; ++c) begin[c + 1] += begin[c];
  // Rows sorted by label and then by position, so that one thread sums each center.
  Scratch<std::int64_t> order(x.rows);
  Scratch<std::int64_t> next(k);
  for (std::int64_t c = 0; c < k; ++c) next[c] = begin[c];
  for (std::int64_t i = 0; i < x.rows; ++i) order[next[labels[i]]++] = i;
  const std::int64_t slices = chunk_count(x.cols, kColumns);
  parallel_for(k * slices, 1, [&](std::int64_t slice, std::int64_t) {
    const std::int64_t c = slice / slices;
    const std::int64_t column = slice % slices * kColumns;
    const std::int64_t count = begin[c + 1] - begin[c];
    if (count == 0) return;
    const std::int64_t width = min_i64(kColumns, x.cols - column);
    double sum[kColumns] = {};
    for (std::int64_t r = begin[c]; r < begin[c + 1]; ++r) {
      const T* row = x.row(order[r]) + column;
      for (std::int64_t i = 0; i < width; ++i) sum[i] += static_cast<double>(row[i]);
    }
    T* out = centers.row(c) + column;
    for (std::int64_t i = 0; i < width; ++i) {
      out[i] = static_cast<T>(sum[i] / static_cast<double>(count));
    }
  });
}

}  // namespace

void cluster_means(MatrixView<const float> x, const std::int64_t* labels,
                   MatrixView<float> centers) {
  means_impl(x, labels, centers);
}

void cluster_means(MatrixView<const double> x, const std::int64_t* labels,
                   MatrixView<double> centers) {
  means_impl(x, labels, centers);
}

}  // namespace rlmba::RLMBA_ISA

#include "rlmba/kmeans.hpp"
#include "rlmba/parallel.hpp"
#include "rlmba/scratch.hpp"

namespace rlmba::RLMBA_ISA {
namespace {

constexpr std::int64_t kColumns = 256;

// Adds `count` columns of the rows with one label to the sums of this label. The sums of two
// successive levels are `stride` numbers apart.
template <std::int64_t Levels, class T, class Row>
void add_rows(const Row& row, std::int64_t rows, std::int64_t count, const double* magic,
              double* sums, std::int64_t stride) {
  double sum[Levels][kColumns] = {};
  for (std::int64_t r = 0; r < rows; ++r) {
    const T* __restrict x = row(r);
    for (std::int64_t i = 0; i < count; ++i) {
      double rest = static_cast<double>(x[i]);
      for (std::int64_t level = 0; level < Levels; ++level) {
        const double part = (rest + magic[level]) - magic[level];
        sum[level][i] += part;
        rest -= part;
      }
    }
  }
  for (std::int64_t level = 0; level < Levels; ++level) {
    for (std::int64_t i = 0; i < count; ++i) sums[level * stride + i] += sum[level][i];
  }
}

template <std::int64_t Levels, class T>
void sums_impl(MatrixView<const T> x, const std::int64_t* labels, std::int64_t k,
               const double* magic, double* sums, std::int64_t* counts) {
  Scratch<std::int64_t> begin(k + 1);
  for (std::int64_t c = 0; c <= k; ++c) begin[c] = 0;
  for (std::int64_t i = 0; i < x.rows; ++i) ++begin[labels[i] + 1];
  for (std::int64_t c = 0; c < k; ++c) counts[c] += begin[c + 1];
  for (std::int64_t c = 0; c < k; ++c) begin[c + 1] += begin[c];
  // Rows are sorted by label, so that a single thread adds to each sum.
  Scratch<std::int64_t> order(x.rows);
  Scratch<std::int64_t> next(k);
  for (std::int64_t c = 0; c < k; ++c) next[c] = begin[c];
  for (std::int64_t i = 0; i < x.rows; ++i) order[next[labels[i]]++] = i;
  const std::int64_t slices = chunk_count(x.cols, kColumns);
  parallel_for(k * slices, 1, [&](std::int64_t slice, std::int64_t) {
    const std::int64_t c = slice / slices;
    const std::int64_t column = slice % slices * kColumns;
    const auto row = [&](std::int64_t r) { return x.row(order[begin[c] + r]) + column; };
    add_rows<Levels, T>(row, begin[c + 1] - begin[c], min_i64(kColumns, x.cols - column), magic,
                        sums + c * x.cols + column, k * x.cols);
  });
}

}  // namespace

void cluster_sums(MatrixView<const float> x, const std::int64_t* labels, std::int64_t k,
                  const double* magic, double* sums, std::int64_t* counts) {
  sums_impl<kSumLevels<float>>(x, labels, k, magic, sums, counts);
}

void cluster_sums(MatrixView<const double> x, const std::int64_t* labels, std::int64_t k,
                  const double* magic, double* sums, std::int64_t* counts) {
  sums_impl<kSumLevels<double>>(x, labels, k, magic, sums, counts);
}

}  // namespace rlmba::RLMBA_ISA

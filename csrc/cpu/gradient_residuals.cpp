#include "rlmba/gradient_residuals.hpp"

#include "rlmba/parallel.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/vector_double.hpp"

namespace rlmba::RLMBA_ISA {
namespace {

constexpr int kPack = 4;

std::int64_t padded(std::int64_t cols) { return chunk_count(cols, kPack * kWide) * kPack * kWide; }

// Computes one row; `e` has space for padded(cols) numbers. False if the row is not finite.
template <class T>
bool residual_row(const T* x, std::int64_t cols, double* e, T* out) {
  std::int64_t top = 0;
  for (std::int64_t c = 1; c < cols; ++c) {
    if (x[c] > x[top]) top = c;
  }
  const DoubleVec shift = wide(static_cast<double>(x[top]));
  DoubleVec probe{};
  DoubleVec others{};
  for (std::int64_t c = 0; c < cols; c += kPack * kWide) {
    DoubleVec v[kPack];
    DoubleVec p[kPack];
    for (int k = 0; k < kPack; ++k) {
      const std::int64_t at = c + k * kWide;
      // Entries beyond the row and the row's largest entry are not added.
      v[k] = at < cols ? load_wide_up_to(x + at, cols - at, -1e300) - shift : wide(-1e300);
      probe += v[k] * 0.0;
    }
    exp_wide(v, p);
    for (int k = 0; k < kPack; ++k) {
      const std::int64_t at = c + k * kWide;
      if (top >= at && top < at + kWide) p[k][top - at] = 0;
      others += p[k];
      store_wide(e + at, p[k]);
    }
  }
  const double sum = sum_of(others);
  const double scale = 1 / (1 + sum);
  for (std::int64_t c = 0; c < cols; ++c) out[c] = static_cast<T>(e[c] * scale);
  out[top] = static_cast<T>(-sum * scale);
  return sum_of(probe) == 0;
}

template <class T>
std::int64_t residuals(MatrixView<const T> logits, T* out) {
  const std::int64_t width = padded(logits.cols);
  const std::int64_t threads = max_threads();
  Scratch<double> memory(threads * width);
  std::int64_t bad = logits.rows;
  const auto process = [&](std::int64_t begin, std::int64_t end, std::int64_t thread) {
    double* e = memory.data() + thread * width;
    for (std::int64_t i = begin; i < end; ++i) {
      if (!residual_row(logits.row(i), logits.cols, e, out + i * logits.cols)) lower(bad, i);
    }
  };
  parallel_for(logits.rows, chunk_rows(width), threads, process);
  return bad == logits.rows ? -1 : bad;
}

}  // namespace

std::int64_t gradient_residuals(MatrixView<const float> logits, float* out) {
  return residuals(logits, out);
}

std::int64_t gradient_residuals(MatrixView<const double> logits, double* out) {
  return residuals(logits, out);
}

}  // namespace rlmba::RLMBA_ISA

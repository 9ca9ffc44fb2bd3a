#include "rlmba/minmax.hpp"

#include "rlmba/parallel.hpp"
#include "rlmba/rescale.hpp"
#include "rlmba/scratch.hpp"

namespace rlmba::RLMBA_ISA {
namespace {

// Elements per thread and step, and the width to which rows with fewer columns are combined.
constexpr std::int64_t kChunk = 1 << 16;
constexpr std::int64_t kWide = 256;

// Adds rows to `low` and `high` [cols]; returns whether all numbers were finite.
template <class T>
bool add_rows(MatrixView<const T> x, T* __restrict low, T* __restrict high) {
  int broken = 0;
  for (std::int64_t i = 0; i < x.rows; ++i) {
    const T* __restrict row = x.row(i);
    for (std::int64_t j = 0; j < x.cols; ++j) {
      const T v = row[j];
      broken |= !(v - v == T(0));
      low[j] = v < low[j] ? v : low[j];
      high[j] = v > high[j] ? v : high[j];
    }
  }
  return !broken;
}

template <class T>
bool add_masked_rows(MatrixView<const T> x, Mask mask, T* __restrict low, T* __restrict high) {
  int broken = 0;
  for (std::int64_t i = 0; i < x.rows; ++i) {
    const T* __restrict row = x.row(i);
    const std::uint8_t* __restrict kept = mask.data + i * mask.row_stride;
    for (std::int64_t j = 0; j < x.cols; ++j) {
      const T v = row[j];
      const bool in = kept[j * mask.column_stride];
      broken |= in & !(v - v == T(0));
      low[j] = in & (v < low[j]) ? v : low[j];
      high[j] = in & (v > high[j]) ? v : high[j];
    }
  }
  return !broken;
}

template <class T>
void rescale_rows(MatrixView<const T> x, const T* __restrict factor, const T* __restrict low,
                  const T* __restrict width, T* out) {
  for (std::int64_t i = 0; i < x.rows; ++i) {
    const T* row = x.row(i);
    T* to = out + i * x.cols;
#pragma omp simd
    for (std::int64_t j = 0; j < x.cols; ++j) to[j] = (row[j] * factor[j] - low[j]) / width[j];
  }
}

template <class T>
void rescale_masked_rows(MatrixView<const T> x, Mask mask, const T* __restrict factor,
                         const T* __restrict low, const T* __restrict width, T* out) {
  for (std::int64_t i = 0; i < x.rows; ++i) {
    const T* row = x.row(i);
    T* to = out + i * x.cols;
    const std::uint8_t* kept = mask.data + i * mask.row_stride;
    for (std::int64_t j = 0; j < x.cols; ++j) {
      const T y = (row[j] * factor[j] - low[j]) / width[j];
      to[j] = kept[j * mask.column_stride] ? y : T(0);
    }
  }
}

template <class T>
std::int64_t first_broken(MatrixView<const T> x, Mask mask) {
  for (std::int64_t i = 0; i < x.rows; ++i) {
    for (std::int64_t j = 0; j < x.cols; ++j) {
      const T v = x.row(i)[j];
      const bool in = !mask.data || mask.data[i * mask.row_stride + j * mask.column_stride];
      if (in && !(v - v == T(0))) return i;
    }
  }
  return 0;
}

template <class T>
MatrixView<const T> rows_of(MatrixView<const T> x, std::int64_t begin, std::int64_t end) {
  return {x.row(begin), end - begin, x.cols, x.stride};
}

Mask rows_of(Mask mask, std::int64_t begin) {
  return {mask.data == nullptr ? nullptr : mask.data + begin * mask.row_stride, mask.row_stride,
          mask.column_stride};
}

// Treats a matrix of few columns as one with `times` as many columns, which repeat.
template <class T>
MatrixView<const T> widened(MatrixView<const T> x, std::int64_t times) {
  return {x.data, x.rows / times, x.cols * times, x.stride * times};
}

template <class T>
struct Columns {
  Columns(MatrixView<const T> x, bool masked)
      : times(!masked && x.stride == x.cols && x.cols < kWide ? kWide / x.cols : 1),
        rows(max_i64(1, kChunk / (x.cols * times)) * times) {}

  std::int64_t times;  // copies of the columns side by side
  std::int64_t rows;   // rows a thread takes at a time, a multiple of `times`
};

template <class T>
std::int64_t find_ranges(MatrixView<const T> x, Mask mask, const Columns<T>& columns,
                         Range<T>* ranges) {
  const std::int64_t wide = x.cols * columns.times;
  const std::int64_t stride = 2 * wide + 32;
  const std::int64_t threads = max_threads();
  Scratch<T> scratch(threads * stride);
  for (std::int64_t t = 0; t < threads; ++t) {
    for (std::int64_t j = 0; j < wide; ++j) {
      scratch[t * stride + j] = Range<T>{}.low;
      scratch[t * stride + wide + j] = Range<T>{}.high;
    }
  }
  std::int64_t bad = x.rows;
  const auto process = [&](std::int64_t begin, std::int64_t end, std::int64_t thread) {
    T* low = &scratch[thread * stride];
    T* high = low + wide;
    const auto part = rows_of(x, begin, end);
    const Mask kept = rows_of(mask, begin);
    bool good;
    if (mask.data != nullptr) {
      good = add_masked_rows(part, kept, low, high);
    } else {
      const auto body = widened(part, columns.times);
      good = add_rows(body, low, high);
      good &= add_rows(rows_of(part, body.rows * columns.times, part.rows), low, high);
    }
    if (!good) lower(bad, begin + first_broken(part, kept));
  };
  parallel_for(x.rows, columns.rows, threads, process);
  for (std::int64_t t = 0; t < threads; ++t) {
    const T* low = &scratch[t * stride];
    for (std::int64_t j = 0; j < wide; ++j) ranges[j % x.cols].merge({low[j], low[wide + j]});
  }
  return bad < x.rows ? bad : -1;
}

template <class T>
std::int64_t minmax_impl(MatrixView<const T> x, Mask mask, T* out) {
  if (x.rows == 0 || x.cols == 0) return -1;
  const Columns<T> columns(x, mask.data != nullptr);
  Scratch<Range<T>> ranges(x.cols);
  for (std::int64_t j = 0; j < x.cols; ++j) ranges[j] = Range<T>{};
  const std::int64_t bad = find_ranges(x, mask, columns, ranges.data());
  if (bad >= 0) return bad;
  const std::int64_t wide = x.cols * columns.times;
  Scratch<T> factor(wide);
  Scratch<T> low(wide);
  Scratch<T> width(wide);
  for (std::int64_t j = 0; j < wide; ++j) {
    const auto map = Rescale<T>::to_unit(ranges[j % x.cols]);
    factor[j] = map.factor;
    low[j] = map.low;
    width[j] = map.width;
  }
  parallel_for(x.rows, columns.rows, [&](std::int64_t begin, std::int64_t end) {
    const auto part = rows_of(x, begin, end);
    T* to = out + begin * x.cols;
    if (mask.data != nullptr) {
      rescale_masked_rows(part, rows_of(mask, begin), factor.data(), low.data(), width.data(), to);
      return;
    }
    const auto body = widened(part, columns.times);
    const std::int64_t done = body.rows * columns.times;
    rescale_rows(body, factor.data(), low.data(), width.data(), to);
    rescale_rows(rows_of(part, done, part.rows), factor.data(), low.data(), width.data(),
                 to + done * x.cols);
  });
  return -1;
}

}  // namespace

std::int64_t minmax(MatrixView<const float> x, Mask mask, float* out) {
  return minmax_impl(x, mask, out);
}

std::int64_t minmax(MatrixView<const double> x, Mask mask, double* out) {
  return minmax_impl(x, mask, out);
}

}  // namespace rlmba::RLMBA_ISA

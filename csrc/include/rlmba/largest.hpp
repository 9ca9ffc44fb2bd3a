#pragma once

#include <cstdint>
#include <limits>

#include "rlmba/parallel.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/view.hpp"

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// Finds the positions of about the m largest of many values, in increasing order; negative values
// are ignored. Histograms narrow down the threshold, so the time depends on neither the order nor
// the ties of the values. Unlike top_k, it does not sort.
class Largest {
 public:
  // The chosen values are those > cut, and those equal to cut at positions <= last.
  struct Choice {
    std::int64_t count;
    double cut;
    std::int64_t last;
  };

  explicit Largest(VectorView<const double> values)
      : values_(values),
        chunks_(chunk_count(values.size, kReductionRows)),
        above_(chunks_),
        equal_(chunks_),
        threads_(max_threads()),
        counts_(threads_ * kBins) {}

  double max() const {
    const auto greater = [](double a, double b) { return b > a ? b : a; };
    const auto part = [&](std::int64_t begin, std::int64_t end) {
      double most = -1;
      for (std::int64_t i = begin; i < end; ++i) most = greater(most, values_.data[i]);
      return most;
    };
    return parallel_reduce(values_.size, kChunkValues, -1.0, part, greater);
  }

  // Chooses at most `wanted` >= 1 values and, if there are enough, at least half as many. No value
  // exceeds `high`, which is finite.
  Choice choose(std::int64_t wanted, double high, std::int64_t* positions) {
    constexpr std::int64_t kLast = std::numeric_limits<std::int64_t>::max();
    Range range{0, high};
    std::int64_t above = 0;
    while (range.low < range.high) {
      count(range);
      std::int64_t bin = kBins - 1;
      while (bin >= 0 && above + counts_[bin] <= wanted) above += counts_[bin--];
      if (bin < 0) return collect(range.low, kLast, positions);
      if (2 * above >= wanted) {
        return collect(extent(range, bin + 1, kBins - 1).low, kLast, positions);
      }
      range = extent(range, bin, bin);
    }
    return collect(range.low, wanted - above, positions);
  }

 private:
  static constexpr std::int64_t kBins = 1024;

  struct Range {
    double low;
    double high;

    RLMBA_INLINE bool holds(double v) const { return v >= low && v <= high; }
    // Increases with v; low and high fall into different bins.
    RLMBA_INLINE std::int64_t bin(double v) const {
      const double place = (v - low) / (high - low) * static_cast<double>(kBins);
      return min_i64(static_cast<std::int64_t>(place), kBins - 1);
    }
  };

  // Counts the values in each bin of a range, in counts_[0, kBins).
  void count(Range range) {
    for (std::int64_t b = 0; b < threads_ * kBins; ++b) counts_[b] = 0;
    const auto process = [&](std::int64_t begin, std::int64_t end, std::int64_t thread) {
      std::int64_t* counts = &counts_[thread * kBins];
      for (std::int64_t i = begin; i < end; ++i) {
        if (range.holds(values_.data[i])) ++counts[range.bin(values_.data[i])];
      }
    };
    parallel_for(values_.size, kChunkValues, threads_, process);
    for (std::int64_t t = 1; t < threads_; ++t) {
      for (std::int64_t b = 0; b < kBins; ++b) counts_[b] += counts_[t * kBins + b];
    }
  }

  // Least and largest of the values of a range that fall into bins [first, last].
  Range extent(Range range, std::int64_t first, std::int64_t last) const {
    const Range empty{range.high, range.low};
    const auto merge = [](Range a, Range b) {
      return Range{b.low < a.low ? b.low : a.low, b.high > a.high ? b.high : a.high};
    };
    const auto part = [&](std::int64_t begin, std::int64_t end) {
      Range found = empty;
      for (std::int64_t i = begin; i < end; ++i) {
        const double v = values_.data[i];
        if (!range.holds(v)) continue;
        const std::int64_t bin = range.bin(v);
        if (bin >= first && bin <= last) found = merge(found, {v, v});
      }
      return found;
    };
    return parallel_reduce(values_.size, kChunkValues, empty, part, merge);
  }

  // Collects every value above the cut, and the first `ties` values equal to it.
  Choice collect(double cut, std::int64_t ties, std::int64_t* positions) {
    parallel_for(values_.size, kReductionRows, [&](std::int64_t begin, std::int64_t end) {
      std::int64_t above = 0;
      std::int64_t equal = 0;
      for (std::int64_t i = begin; i < end; ++i) {
        above += values_.data[i] > cut;
        equal += values_.data[i] == cut;
      }
      above_[begin / kReductionRows] = above;
      equal_[begin / kReductionRows] = equal;
    });
    std::int64_t count = 0;
    std::int64_t left = ties;
    for (std::int64_t c = 0; c < chunks_; ++c) {
      const std::int64_t above = above_[c];
      const std::int64_t equal = min_i64(equal_[c], left);
      above_[c] = count;
      equal_[c] = equal;
      count += above + equal;
      left -= equal;
    }
    const auto part = [&](std::int64_t begin, std::int64_t end) {
      const std::int64_t c = begin / kReductionRows;
      std::int64_t last = -1;
      std::int64_t out = above_[c];
      std::int64_t equal = equal_[c];
      const std::int64_t stop = c + 1 < chunks_ ? above_[c + 1] : count;
      for (std::int64_t i = begin; i < end && out < stop; ++i) {
        const double v = values_.data[i];
        if (v > cut) {
          positions[out++] = i;
        } else if (v == cut && equal > 0) {
          positions[out++] = i;
          --equal;
          last = i;
        }
      }
      return last;
    };
    const auto later = [](std::int64_t a, std::int64_t b) { return max_i64(a, b); };
    const std::int64_t none = -1;
    return {count, cut, parallel_reduce(values_.size, kReductionRows, none, part, later)};
  }

  VectorView<const double> values_;
  std::int64_t chunks_;
  Scratch<std::int64_t> above_;
  Scratch<std::int64_t> equal_;
  std::int64_t threads_;
  Scratch<std::int64_t> counts_;
};

}  // namespace rlmba::RLMBA_ISA
#endif

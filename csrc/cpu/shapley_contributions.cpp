#include "rlmba/shapley_contributions.hpp"

#include <math.h>

#include "rlmba/parallel.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/vector_double.hpp"

namespace rlmba::RLMBA_ISA {
namespace {

// Rows per thread and step. Rows are independent, so results do not depend on it.
constexpr std::int64_t kChunkRows = 64;

// sums[k] += exp(x[k]).
template <int K>
RLMBA_INLINE void add_exp(const DoubleVec* x, DoubleVec* sums) {
  DoubleVec v[K];
  DoubleVec e[K];
  for (int k = 0; k < K; ++k) v[k] = x[k];
  exp_wide(v, e);
  for (int k = 0; k < K; ++k) sums[k] += e[k];
}

RLMBA_INLINE void add_exps(const DoubleVec* x, DoubleVec* sums, std::int64_t count) {
  std::int64_t k = 0;
  for (; k + 4 <= count; k += 4) add_exp<4>(x + k, sums + k);
  if (count - k == 3) add_exp<3>(x + k, sums + k);
  if (count - k == 2) add_exp<2>(x + k, sums + k);
  if (count - k == 1) add_exp<1>(x + k, sums + k);
}

// The bias padded with minus infinity to whole vectors; padding adds nothing to a sum of
// exponentials.
class Bias {
 public:
  Bias(const double* bias, std::int64_t classes)
      : padded_((classes + kWide - 1) / kWide * kWide), empty_(classes) {
    const std::int64_t size = (classes + kWide - 1) / kWide * kWide;
    for (std::int64_t c = 0; c < size; ++c) padded_[c] = c < classes ? bias[c] : -INFINITY;
    for (std::int64_t y = 0; y < classes; ++y) {
      DoubleVec sum{};
      for (std::int64_t c = 0; c < size; c += kWide) {
        const DoubleVec x = load_wide(&padded_[c]) - bias[y];
        add_exp<1>(&x, &sum);
      }
      empty_[y] = 1 / sum_of(sum);
    }
  }

  // Logits of kWide classes from c on, minus that of class y.
  RLMBA_INLINE DoubleVec above(std::int64_t c, std::int64_t y) const {
    return load_wide(&padded_[c]) - padded_[y];
  }
  // p_y of the empty coalition.
  RLMBA_INLINE double empty(std::int64_t y) const { return empty_[y]; }

 private:
  Scratch<double> padded_;
  Scratch<double> empty_;
};

// p_y = 1 / sum_c exp(z_c - z_y) of every coalition. With differences to class y, no maximum has to
// be found first, and only one vector of a coalition's logits is stored at a time.
template <class T>
class Rows {
 public:
  // Scratch memory of one thread: M vectors, and two vectors and a number per coalition.
  struct Work {
    DoubleVec* part;
    DoubleVec* logits;
    DoubleVec* sums;
    double* worth;
  };

  Rows(const ShapleyInput<T>& in, const Bias& bias) : in_(in), bias_(bias) {}

  // The values of row i. False if it is not finite.
  RLMBA_INLINE bool row(std::int64_t i, const Work& work, double* values) const {
    const std::int64_t y = in_.labels[i];
    if (!add_up(i, y, work)) return false;
    work.worth[0] = bias_.empty(y);
    for (std::int64_t c = 1; c < in_.coalitions; ++c) work.worth[c] = 1 / sum_of(work.sums[c]);
    for (std::int64_t k = 0; k < in_.modalities; ++k) values[k] = 0;
    for (std::int64_t t = 0; t < in_.terms; ++t) {
      values[in_.modality[t]] +=
          in_.share[t] * (work.worth[in_.after[t]] - work.worth[in_.before[t]]);
    }
    return true;
  }

 private:
  // Sums of exponentials of every coalition except the empty one. False if a part is not finite.
  RLMBA_INLINE bool add_up(std::int64_t i, std::int64_t y, const Work& work) const {
    const std::int64_t classes = in_.parts[0].cols;
    for (std::int64_t c = 1; c < in_.coalitions; ++c) work.sums[c] = DoubleVec{};
    DoubleVec probe{};
    for (std::int64_t j = 0; j < classes; j += kWide) {
      for (std::int64_t k = 0; k < in_.modalities; ++k) {
        work.part[k] = DoubleVec{};
        if (in_.present != nullptr && !in_.present[i * in_.modalities + k]) continue;
        const T* x = in_.parts[k].row(i);
        const DoubleVec v = load_wide_up_to(x + j, classes - j, 0.0);
        probe += v * 0.0;
        work.part[k] = v - static_cast<double>(x[y]);
      }
      work.logits[0] = bias_.above(j, y);
      for (std::int64_t c = 1; c < in_.coalitions; ++c) {
        work.logits[c] = work.logits[in_.parent[c]] + work.part[in_.added[c]];
      }
      add_exps(work.logits + 1, work.sums + 1, in_.coalitions - 1);
    }
    return sum_of(probe) == 0;
  }

  ShapleyInput<T> in_;
  const Bias& bias_;
};

template <class T>
std::int64_t shapley_impl(const ShapleyInput<T>& in, double* values) {
  const std::int64_t n = in.parts[0].rows;
  const std::int64_t m = in.modalities;
  const std::int64_t threads = max_threads();
  const Bias bias(in.bias, in.parts[0].cols);
  const Rows<T> rows(in, bias);
  // Padded so that no two threads write to the same cache line.
  const std::int64_t worths = in.coalitions + 16;
  Scratch<DoubleVec> part(threads * (m + 1));
  Scratch<DoubleVec> logits(threads * (in.coalitions + 1));
  Scratch<DoubleVec> sums(threads * (in.coalitions + 1));
  Scratch<double> worth(threads * worths);
  std::int64_t bad = n;
  const auto process = [&](std::int64_t begin, std::int64_t end, std::int64_t thread) {
    const typename Rows<T>::Work work{&part[thread * (m + 1)],
                                      &logits[thread * (in.coalitions + 1)],
                                      &sums[thread * (in.coalitions + 1)], &worth[thread * worths]};
    for (std::int64_t i = begin; i < end; ++i) {
      if (!rows.row(i, work, values + i * m)) {
        lower(bad, i);
        break;
      }
    }
  };
  parallel_for(n, kChunkRows, threads, process);
  return bad < n ? bad : -1;
}

}  // namespace

std::int64_t shapley_contributions(const ShapleyInput<float>& input, double* values) {
  return shapley_impl(input, values);
}

std::int64_t shapley_contributions(const ShapleyInput<double>& input, double* values) {
  return shapley_impl(input, values);
}

}  // namespace rlmba::RLMBA_ISA

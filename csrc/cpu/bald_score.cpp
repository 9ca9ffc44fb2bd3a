#include "rlmba/bald_score.hpp"

#include <math.h>

#include "rlmba/parallel.hpp"
#include "rlmba/scratch.hpp"
#include "rlmba/vector_double.hpp"

namespace rlmba::RLMBA_ISA {
namespace {

// Samples per thread and step. Samples are independent, so results do not depend on it.
constexpr std::int64_t kChunkRows = 64;

// sum_k phi(p_k / q - 1) of a vector of classes, phi(e) = (1 + e) log(1 + e) - e.
template <int K>
RLMBA_INLINE DoubleVec sum_phi(const DoubleVec* p, DoubleVec q, DoubleVec reciprocal) {
  DoubleVec e[K];
  DoubleVec log[K];
  for (int k = 0; k < K; ++k) e[k] = (p[k] - q) * reciprocal;
  log1p_wide(e, log);
  DoubleVec sum{};
  // phi >= 0, except for rounding where e is close to 0.
  for (int k = 0; k < K; ++k)
    sum += max(fma(max(e[k] + 1.0, DoubleVec{}), log[k], -e[k]), DoubleVec{});
  return sum;
}

// The mutual information as mean_k KL(p_k || q), q = mean_k p_k, computed as mean_k sum_c q_c
// phi(p_kc / q_c - 1). The first-order terms sum to zero and are left out. The remaining terms are
// positive, so nothing cancels even if the passes are almost equal.
template <class T>
class Rows {
 public:
  // Classes per row of scratch memory, rounded up to whole vectors.
  static std::int64_t padded(std::int64_t classes) { return (classes + kWide - 1) / kWide * kWide; }

  Rows(const PassesView<T>& in, bool logits)
      : in_(in), logits_(logits), width_(padded(in.classes)) {}

  // Writes the score of sample i, `p` has space for K * width numbers and `column` for K vectors.
  // False if the sample is not valid.
  RLMBA_INLINE bool row(std::int64_t i, double* p, DoubleVec* column, double* score) const {
    for (std::int64_t k = 0; k < in_.passes; ++k) {
      const T* x = in_.at(k, i);
      double* to = p + k * width_;
      const double sum = logits_ ? exponentials(x, to) : copy(x, to);
      if (!(sum > 0)) return false;
      const double scale = 1 / sum;
      for (std::int64_t c = 0; c < width_; c += kWide) {
        store_wide(to + c, load_wide(to + c) * scale);
      }
    }
    DoubleVec total{};
    for (std::int64_t c = 0; c < width_; c += kWide) {
      for (std::int64_t k = 0; k < in_.passes; ++k) column[k] = load_wide(p + k * width_ + c);
      total += divergence(column);
    }
    *score = sum_of(total) / static_cast<double>(in_.passes);
    return true;
  }

 private:
  // Writes exp(x - max) and zeros up to `width`; returns their sum, or NaN if x is not finite.
  RLMBA_INLINE double exponentials(const T* x, double* to) const {
    DoubleVec high = wide(-INFINITY);
    DoubleVec probe{};
    for (std::int64_t c = 0; c < in_.classes; c += kWide) {
      const DoubleVec v = load_wide_up_to(x + c, in_.classes - c, static_cast<double>(x[0]));
      high = max(high, v);
      probe += v * 0.0;
    }
    double lanes[kWide];
    store_wide(lanes, high);
    double top = lanes[0];
    for (int l = 1; l < kWide; ++l) top = lanes[l] > top ? lanes[l] : top;
    DoubleVec sum = probe;
    constexpr int kPack = 4;
    std::int64_t c = 0;
    for (; c + kPack * kWide <= in_.classes; c += kPack * kWide) pack<kPack>(x, to, c, top, sum);
    for (; c < in_.classes; c += kWide) pack<1>(x, to, c, top, sum);
    return sum_of(sum);
  }

  template <int K>
  RLMBA_INLINE void pack(const T* x, double* to, std::int64_t start, double top,
                         DoubleVec& sum) const {
    DoubleVec v[K];
    DoubleVec e[K];
    for (int k = 0; k < K; ++k) {
      const std::int64_t c = start + k * kWide;
      v[k] = load_wide_up_to(x + c, in_.classes - c, -INFINITY) - top;
    }
    exp_wide(v, e);
    for (int k = 0; k < K; ++k) {
      store_wide(to + start + k * kWide, e[k]);
      sum += e[k];
    }
  }

  // Writes x and zeros up to `width`; returns the sum of x, or NaN if x is not a distribution.
  RLMBA_INLINE double copy(const T* x, double* to) const {
    DoubleVec sum{};
    DoubleVec low{};
    for (std::int64_t c = 0; c < in_.classes; c += kWide) {
      const DoubleVec v = load_wide_up_to(x + c, in_.classes - c, 0.0);
      sum += v;
      low = min(v, low);
      store_wide(to + c, v);
    }
    const double total = sum_of(sum);
    return fabs(total - 1) <= kProbabilitySlack && sum_of(low) == 0 ? total : NAN;
  }

  // sum_k q phi(p_k / q - 1) of a vector of classes.
  RLMBA_INLINE DoubleVec divergence(const DoubleVec* p) const {
    // The mean of equal passes is exactly p.
    DoubleVec beyond{};
    for (std::int64_t k = 1; k < in_.passes; ++k) beyond += p[k] - p[0];
    const DoubleVec q = p[0] + beyond / static_cast<double>(in_.passes);
    // A class with probability 0 in every pass adds 0.
    const DoubleVec reciprocal = 1.0 / max(q, wide(0x1p-1022));
    DoubleVec sum{};
    std::int64_t k = 0;
    for (; k + 4 <= in_.passes; k += 4) sum += sum_phi<4>(p + k, q, reciprocal);
    if (in_.passes - k == 3) sum += sum_phi<3>(p + k, q, reciprocal);
    if (in_.passes - k == 2) sum += sum_phi<2>(p + k, q, reciprocal);
    if (in_.passes - k == 1) sum += sum_phi<1>(p + k, q, reciprocal);
    return sum * q;
  }

  PassesView<T> in_;
  bool logits_;
  std::int64_t width_;
};

template <class T>
std::int64_t bald_impl(const PassesView<T>& in, bool logits, double* scores) {
  const std::int64_t n = in.rows;
  const std::int64_t threads = max_threads();
  const Rows<T> rows(in, logits);
  const std::int64_t size = in.passes * Rows<T>::padded(in.classes);
  Scratch<double> p(threads * size);
  Scratch<DoubleVec> column(threads * (in.passes + 1));
  std::int64_t bad = n;
  const auto process = [&](std::int64_t begin, std::int64_t end, std::int64_t thread) {
    for (std::int64_t i = begin; i < end; ++i) {
      if (!rows.row(i, &p[thread * size], &column[thread * (in.passes + 1)], scores + i)) {
        lower(bad, i);
        break;
      }
    }
  };
  parallel_for(n, kChunkRows, threads, process);
  return bad < n ? bad : -1;
}

}  // namespace

std::int64_t bald_score(const PassesView<float>& passes, bool logits, double* scores) {
  return bald_impl(passes, logits, scores);
}

std::int64_t bald_score(const PassesView<double>& passes, bool logits, double* scores) {
  return bald_impl(passes, logits, scores);
}

}  // namespace rlmba::RLMBA_ISA

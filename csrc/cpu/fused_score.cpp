#include "rlmba/fused_score.hpp"

#include "rlmba/dirichlet_pass.hpp"

namespace rlmba::RLMBA_ISA {
namespace {

template <class T>
Range<T> range_of(const T* values, std::int64_t n) {
  const auto part = [&](std::int64_t begin, std::int64_t end) {
    T low = Range<T>{}.low;
    T high = Range<T>{}.high;
#pragma omp simd reduction(min : low) reduction(max : high)
    for (std::int64_t i = begin; i < end; ++i) {
      low = values[i] < low ? values[i] : low;
      high = values[i] > high ? values[i] : high;
    }
    return Range<T>{low, high};
  };
  const auto merge = [](Range<T> a, const Range<T>& b) {
    a.merge(b);
    return a;
  };
  return parallel_reduce(n, kChunkValues, Range<T>{}, part, merge);
}

// Eq 6 of rows [begin, end); `w` has room for M.
template <class T>
void score_rows(const DirichletInput<T>& in, const T* distances, double beta,
                const Rescale<T>* to_unit, const Rescale<T>& distance_to_unit, double* w,
                std::int64_t begin, std::int64_t end, const FusedScoreOutput<T>& out) {
  const std::int64_t m = in.modalities;
  for (std::int64_t i = begin; i < end; ++i) {
    row_weights(in, i, w);
    const T d = distances == nullptr ? T(0) : distance_to_unit(distances[i]);
    double q = beta * static_cast<double>(d);
    for (std::int64_t k = 0; k < m; ++k) {
      const T u = is_absent(in, i, k) ? T(0) : to_unit[k](out.uncertainty[i * m + k]);
      out.normalized_uncertainty[i * m + k] = u;
      q += w[k] * static_cast<double>(u);
    }
    out.normalized_distance[i] = d;
    out.score[i] = static_cast<T>(q);
  }
}

// Computes Eq 6 for all rows. `ranges` [M] are those of the uncertainties of each modality.
template <class T>
void score_all(const DirichletInput<T>& in, std::int64_t n, const T* distances, double beta,
               const Range<T>* ranges, const Range<T>& distance_range,
               const FusedScoreOutput<T>& out) {
  const std::int64_t m = in.modalities;
  Scratch<Rescale<T>> to_unit(m);
  for (std::int64_t k = 0; k < m; ++k) to_unit[k] = Rescale<T>::to_unit(ranges[k]);
  Rescale<T> distance_to_unit;
  if (distances != nullptr) distance_to_unit = Rescale<T>::to_unit(distance_range);
  const std::int64_t stride = m + 16;
  const std::int64_t threads = max_threads();
  Scratch<double> weights(threads * stride);
  constexpr std::int64_t kRows = 4096;
  parallel_for(n, kRows, threads, [&](std::int64_t begin, std::int64_t end, std::int64_t thread) {
    score_rows(in, distances, beta, to_unit.data(), distance_to_unit, &weights[thread * stride],
               begin, end, out);
  });
}

template <class T>
std::int64_t fused_score_impl(const DirichletInput<T>& in, const T* distances, double beta,
                              const FusedScoreOutput<T>& out) {
  const std::int64_t m = in.modalities;
  const std::int64_t n = in.x[0].rows;
  Scratch<Range<T>> ranges(m);
  for (std::int64_t k = 0; k < m; ++k) ranges[k] = Range<T>{};
  const std::int64_t bad = dirichlet_pass(in, out.uncertainty, out.difficulty, ranges.data());
  if (bad >= 0) return bad;
  const Range<T> far = distances == nullptr ? Range<T>{} : range_of(distances, n);
  score_all(in, n, distances, beta, ranges.data(), far, out);
  return -1;
}

template <class T>
void score_within_impl(const DirichletInput<T>& in, std::int64_t n, const T* distances, double beta,
                       const T* limits, const FusedScoreOutput<T>& out) {
  const std::int64_t m = in.modalities;
  Scratch<Range<T>> ranges(m + 1);
  for (std::int64_t k = 0; k <= m; ++k) ranges[k] = Range<T>{limits[2 * k], limits[2 * k + 1]};
  score_all(in, n, distances, beta, ranges.data(), ranges[m], out);
}

}  // namespace

std::int64_t fused_score(const DirichletInput<float>& in, const float* distances, double beta,
                         const FusedScoreOutput<float>& out) {
  return fused_score_impl(in, distances, beta, out);
}

std::int64_t fused_score(const DirichletInput<double>& in, const double* distances, double beta,
                         const FusedScoreOutput<double>& out) {
  return fused_score_impl(in, distances, beta, out);
}

void score_within(const DirichletInput<float>& in, std::int64_t n, const float* distances,
                  double beta, const float* limits, const FusedScoreOutput<float>& out) {
  score_within_impl(in, n, distances, beta, limits, out);
}

void score_within(const DirichletInput<double>& in, std::int64_t n, const double* distances,
                  double beta, const double* limits, const FusedScoreOutput<double>& out) {
  score_within_impl(in, n, distances, beta, limits, out);
}

}  // namespace rlmba::RLMBA_ISA

#include <pybind11/stl.h>

#include <limits>
#include <optional>
#include <vector>

#include "core.hpp"
#include "output.hpp"
#include "rlmba/herding.hpp"

namespace rlmba::bindings {
namespace {

template <class A>
const A* contiguous(const Array<A>& a, std::int64_t size) {
  if (!(a.flags() & py::array::c_style) || a.size() != size) {
    throw std::invalid_argument("expected a contiguous array with an entry for each row");
  }
  return a.data();
}

template <class A>
const A* contiguous(const std::optional<Array<A>>& a, std::int64_t size) {
  return a ? contiguous(*a, size) : nullptr;
}

// Rows that borrow the arrays of Python's arguments, which must outlive it.
template <class T>
class Rows {
 public:
  Rows(const std::vector<Array<T>>& parts, const Array<double>& weights,
       const std::optional<Array<bool>>& present)
      : weights_(vector_view(weights)) {
    if (parts.empty()) throw std::invalid_argument("expected at least one modality");
    for (const auto& a : parts) views_.push_back(matrix_view(a));
    const auto m = static_cast<std::int64_t>(views_.size());
    if (weights_.size != m) throw std::invalid_argument("expected a weight for each modality");
    for (const auto& v : views_) {
      if (v.rows != views_[0].rows) throw std::invalid_argument("expected equal numbers of rows");
    }
    double sum = 0;
    for (std::int64_t i = 0; i < m; ++i) sum += weights_.data[i];
    for (std::int64_t i = 0; i < m; ++i) shares_.push_back(weights_.data[i] / sum);
    present_ = reinterpret_cast<const std::uint8_t*>(contiguous(present, views_[0].rows * m));
  }

  ModalityRows<T> view() const {
    return {views_.data(), static_cast<std::int64_t>(views_.size()), weights_.data, shares_.data(),
            present_};
  }

 private:
  std::vector<MatrixView<const T>> views_;
  VectorView<const double> weights_;
  std::vector<double> shares_;
  const std::uint8_t* present_;
};

void require_positions(VectorView<const std::int64_t> positions, std::int64_t rows) {
  for (std::int64_t i = 0; i < positions.size; ++i) {
    if (positions.data[i] < 0 || positions.data[i] >= rows) {
      throw std::invalid_argument("expected positions of rows");
    }
  }
}

template <class T>
std::int64_t herding(const std::vector<Array<T>>& parts, const std::vector<Array<T>>& labeled,
                     const Array<double>& weights, const std::optional<Array<bool>>& present,
                     const std::optional<Array<bool>>& labeled_present, double radius,
                     const Array<double>& utility, const std::optional<Array<std::int32_t>>& groups,
                     const Array<bool>& group_modalities, const Array<std::int64_t>& targets,
                     const Array<std::int64_t>& candidates, std::int64_t scratch_bytes,
                     Array<std::int64_t>& indices, Array<double>& gains) {
  const Rows<T> rows(parts, weights, present);
  const Rows<T> given(labeled, weights, labeled_present);
  const auto x = rows.view();
  const auto l = given.view();
  for (std::int64_t m = 0; m < x.modalities; ++m) {
    if (x.parts[m].cols != l.parts[m].cols) throw std::invalid_argument("expected equal widths");
  }
  if (x.rows() > std::numeric_limits<std::int32_t>::max()) {
    throw std::invalid_argument("expected fewer than 2^31 rows");
  }
  const std::int64_t n = vector_view(indices).size;
  const auto pool = vector_view(candidates);
  const auto covered = vector_view(targets);
  require_positions(pool, x.rows());
  require_positions(covered, x.rows());
  if (n > pool.size || vector_view(gains).size != n || vector_view(utility).size != x.rows() ||
      group_modalities.ndim() != 2 || group_modalities.shape(0) < 1 ||
      group_modalities.shape(1) != x.modalities) {
    throw std::invalid_argument("shapes or options of herding do not agree");
  }
  const std::int64_t count = group_modalities.shape(0);
  const bool* sets = contiguous(group_modalities, count * x.modalities);
  const std::int32_t* group = contiguous(groups, x.rows());
  for (std::int64_t i = 0; group != nullptr && i < x.rows(); ++i) {
    if (group[i] < 0 || group[i] >= count) throw std::invalid_argument("expected groups of rows");
  }
  const HerdingProblem<T> problem{
      x,     l,       radius, utility.data(), group, reinterpret_cast<const std::uint8_t*>(sets),
      count, covered, pool,   scratch_bytes};
  const VectorView<std::int64_t> out{indices.mutable_data(), n};
  double* g = gains.mutable_data();
  py::gil_scoped_release release;
  return RLMBA_DISPATCH(herding, problem, out, g);
}

template <class T>
void modality_distances(const std::vector<Array<T>>& parts, const Array<double>& weights,
                        const std::optional<Array<bool>>& present,
                        const Array<std::int64_t>& positions, Array<double>& out) {
  const Rows<T> rows(parts, weights, present);
  const auto x = rows.view();
  const auto chosen = vector_view(positions);
  require_positions(chosen, x.rows());
  double* d = output(out, chosen.size * x.rows());
  py::gil_scoped_release release;
  RLMBA_DISPATCH(modality_distances, x, chosen, d);
}

template <class T>
void register_type(py::module_& m, const char* herding_name, const char* distances_name) {
  m.def(herding_name, &herding<T>, py::arg("parts"), py::arg("labeled"),
        py::arg("weights").noconvert(), py::arg("present").noconvert(),
        py::arg("labeled_present").noconvert(), py::arg("radius"), py::arg("utility").noconvert(),
        py::arg("groups").noconvert(), py::arg("group_modalities").noconvert(),
        py::arg("targets").noconvert(), py::arg("candidates").noconvert(), py::arg("scratch_bytes"),
        py::arg("indices").noconvert(), py::arg("gains").noconvert());
  m.def(distances_name, &modality_distances<T>, py::arg("parts"), py::arg("weights").noconvert(),
        py::arg("present").noconvert(), py::arg("positions").noconvert(),
        py::arg("out").noconvert());
}

}  // namespace

void register_herding(py::module_& m) {
  register_type<float>(m, "herding_f32", "modality_distances_f32");
  register_type<double>(m, "herding_f64", "modality_distances_f64");
  m.attr("herding_overflow") = kHerdingOverflow;
}

}  // namespace rlmba::bindings

#include "core.hpp"
#include "rlmba/k_center.hpp"

namespace rlmba::bindings {
namespace {

// The status and the squared radius.
template <class T>
std::pair<std::int64_t, double> k_center(const Array<T>& x, const Array<T>& labeled,
                                         std::int64_t first, std::int64_t scratch_bytes,
                                         Array<std::int64_t>& indices, Array<double>& squared) {
  const auto rows = matrix_view(x);
  const auto given = matrix_view(labeled);
  const std::int64_t n = vector_view(indices).size;
  if (rows.cols != given.cols || n > rows.rows || first >= rows.rows ||
      vector_view(squared).size != n) {
    throw std::invalid_argument("shapes or options of k_center do not agree");
  }
  const KCenterPlan plan{first, scratch_bytes};
  const VectorView<std::int64_t> out{indices.mutable_data(), n};
  double* s = squared.mutable_data();
  double radius = 0;
  py::gil_scoped_release release;
  const std::int64_t status = RLMBA_DISPATCH(k_center, rows, given, plan, out, s, &radius);
  return {status, radius};
}

template <class T>
std::int64_t k_center_scratch(const Array<T>& x) {
  return RLMBA_DISPATCH(k_center_scratch, static_cast<const T*>(nullptr), matrix_view(x).cols);
}

template <class T>
void register_type(py::module_& m) {
  m.def("k_center", &k_center<T>, py::arg("x").noconvert(), py::arg("labeled").noconvert(),
        py::arg("first"), py::arg("scratch_bytes"), py::arg("indices").noconvert(),
        py::arg("squared").noconvert());
  m.def("k_center_scratch", &k_center_scratch<T>, py::arg("x").noconvert());
}

}  // namespace

void register_k_center(py::module_& m) {
  register_type<float>(m);
  register_type<double>(m);
  m.attr("k_center_overflow") = kKCenterOverflow;
}

}  // namespace rlmba::bindings

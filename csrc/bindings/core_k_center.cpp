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
std::int64_t pick_farthest(const Array<T>& x, const Array<double>& nearest, double floor_squared,
                           std::int64_t floor_row, Array<std::int64_t>& picks,
                           Array<double>& squared) {
  const auto rows = matrix_view(x);
  const auto known = vector_view(nearest);
  const std::int64_t n = vector_view(picks).size;
  if (known.size != rows.rows || vector_view(squared).size != n) {
    throw std::invalid_argument("shapes of pick_farthest do not agree");
  }
  const VectorView<std::int64_t> out{picks.mutable_data(), n};
  double* s = squared.mutable_data();
  py::gil_scoped_release release;
  return RLMBA_DISPATCH(pick_farthest, rows, known.data, floor_squared, floor_row, out, s);
}

template <class T>
void column_sums(const Array<T>& x, Array<double>& sums) {
  const auto rows = matrix_view(x);
  if (vector_view(sums).size != rows.cols) throw std::invalid_argument("expected a sum a column");
  double* s = sums.mutable_data();
  py::gil_scoped_release release;
  RLMBA_DISPATCH(column_sums, rows, s);
}

// The position and the squared distance.
template <class T>
std::pair<std::int64_t, double> nearest_to(const Array<T>& x, const Array<double>& mean) {
  const auto rows = matrix_view(x);
  const auto to = vector_view(mean);
  if (rows.rows < 1 || to.size != rows.cols)
    throw std::invalid_argument("expected rows and a mean");
  double squared = 0;
  py::gil_scoped_release release;
  const std::int64_t position = RLMBA_DISPATCH(nearest_to, rows, to.data, &squared);
  return {position, squared};
}

template <class T>
void register_type(py::module_& m) {
  m.def("pick_farthest", &pick_farthest<T>, py::arg("x").noconvert(),
        py::arg("nearest").noconvert(), py::arg("floor_squared"), py::arg("floor_row"),
        py::arg("picks").noconvert(), py::arg("squared").noconvert());
  m.def("column_sums", &column_sums<T>, py::arg("x").noconvert(), py::arg("sums").noconvert());
  m.def("nearest_to", &nearest_to<T>, py::arg("x").noconvert(), py::arg("mean").noconvert());
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

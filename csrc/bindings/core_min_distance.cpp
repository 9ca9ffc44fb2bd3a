#include "core.hpp"
#include "rlmba/nearest.hpp"

namespace rlmba::bindings {
namespace {

template <class T>
std::int64_t update_nearest(const Array<T>& x, const Array<T>& centers, std::int64_t scratch_bytes,
                            Array<double>& squared, Array<std::int64_t>& labels,
                            std::int64_t first_label) {
  const auto rows = matrix_view(x);
  const auto others = matrix_view(centers);
  if (rows.cols != others.cols || vector_view(squared).size != rows.rows ||
      vector_view(labels).size != rows.rows) {
    throw std::invalid_argument("shapes of x, centers and outputs do not agree");
  }
  double* s = squared.mutable_data();
  std::int64_t* l = labels.mutable_data();
  py::gil_scoped_release release;
  return RLMBA_DISPATCH(update_nearest, rows, others, first_label, scratch_bytes, s, l);
}

template <class T>
std::int64_t first_bad_row(const Array<T>& x) {
  const auto view = matrix_view(x);
  py::gil_scoped_release release;
  return RLMBA_DISPATCH(first_bad_row, view);
}

template <class T>
std::int64_t nearest_scratch(const Array<T>& x) {
  return RLMBA_DISPATCH(nearest_scratch, static_cast<const T*>(nullptr), matrix_view(x).cols);
}

template <class T>
void register_type(py::module_& m) {
  m.def("update_nearest", &update_nearest<T>, py::arg("x").noconvert(),
        py::arg("centers").noconvert(), py::arg("scratch_bytes"), py::arg("squared").noconvert(),
        py::arg("labels").noconvert(), py::arg("first_label") = 0);
  m.def("first_bad_row", &first_bad_row<T>, py::arg("x").noconvert());
  m.def("nearest_scratch", &nearest_scratch<T>, py::arg("x").noconvert());
}

}  // namespace

void register_min_distance(py::module_& m) {
  register_type<float>(m);
  register_type<double>(m);
}

}  // namespace rlmba::bindings

#include "core.hpp"
#include "output.hpp"
#include "rlmba/graph.hpp"

namespace rlmba::bindings {
namespace {

template <class T>
MatrixView<T> writable(Array<T>& a, std::int64_t rows, std::int64_t cols) {
  const auto view = matrix_view(a);
  if (view.rows != rows || view.cols != cols) {
    throw std::invalid_argument("expected an output of the right shape");
  }
  return {a.mutable_data(), view.rows, view.cols, view.stride};
}

template <class T>
py::tuple graph_norms(const Array<T>& x, Array<double>& inverse_norms, Array<double>& sums) {
  const auto rows = matrix_view(x);
  double* inverse = output(inverse_norms, rows.rows);
  double* total = output(sums, rows.cols);
  bool nonnegative = true;
  std::int64_t bad;
  {
    py::gil_scoped_release release;
    bad = RLMBA_DISPATCH(graph_norms, rows, inverse, total, &nonnegative);
  }
  return py::make_tuple(bad, nonnegative);
}

template <class T>
void graph_degrees(const Array<T>& x, const Array<double>& inverse_norms, const Array<double>& sums,
                   Array<double>& degrees) {
  const auto rows = matrix_view(x);
  const auto inverse = vector_view(inverse_norms);
  const auto total = vector_view(sums);
  double* out = output(degrees, rows.rows);
  if (inverse.size != rows.rows || total.size != rows.cols) {
    throw std::invalid_argument("shapes of features, norms and sums do not agree");
  }
  py::gil_scoped_release release;
  RLMBA_DISPATCH(graph_degrees, rows, inverse.data, total.data, out);
}

template <class T>
void normalize_rows(const Array<T>& x, const Array<double>& inverse_norms, Array<T>& out) {
  const auto rows = matrix_view(x);
  const auto inverse = vector_view(inverse_norms);
  const auto to = writable(out, rows.rows, rows.cols);
  if (inverse.size != rows.rows) throw std::invalid_argument("expected a norm of every row");
  py::gil_scoped_release release;
  RLMBA_DISPATCH(normalize_rows, rows, inverse.data, to);
}

template <class T>
void graph_apply(const Array<T>& x, const Array<double>& inverse_norms,
                 const Array<double>& inverse_degrees, bool shifted, const Array<T>& values,
                 Array<T>& out) {
  const auto rows = matrix_view(x);
  const auto h = matrix_view(values);
  const auto norms = vector_view(inverse_norms);
  const auto degrees = vector_view(inverse_degrees);
  if (norms.size != rows.rows || degrees.size != rows.rows || h.rows != rows.rows) {
    throw std::invalid_argument("shapes of features, graph and values do not agree");
  }
  const auto to = writable(out, rows.rows, h.cols);
  const Graph graph{norms.data, degrees.data, shifted};
  py::gil_scoped_release release;
  RLMBA_DISPATCH(graph_apply, rows, graph, h, to);
}

template <class T>
void register_type(py::module_& m) {
  m.def("graph_norms", &graph_norms<T>, py::arg("x").noconvert(),
        py::arg("inverse_norms").noconvert(), py::arg("sums").noconvert());
  m.def("graph_degrees", &graph_degrees<T>, py::arg("x").noconvert(),
        py::arg("inverse_norms").noconvert(), py::arg("sums").noconvert(),
        py::arg("degrees").noconvert());
  m.def("normalize_rows", &normalize_rows<T>, py::arg("x").noconvert(),
        py::arg("inverse_norms").noconvert(), py::arg("out").noconvert());
  m.def("graph_apply", &graph_apply<T>, py::arg("x").noconvert(),
        py::arg("inverse_norms").noconvert(), py::arg("inverse_degrees").noconvert(),
        py::arg("shifted"), py::arg("values").noconvert(), py::arg("out").noconvert());
}

}  // namespace

void register_graph_propagate(py::module_& m) {
  register_type<float>(m);
  register_type<double>(m);
}

}  // namespace rlmba::bindings

#include "core.hpp"
#include "output.hpp"
#include "rlmba/kmeans.hpp"

namespace rlmba::bindings {
namespace {

template <class T>
std::int64_t kmeans_plusplus(const Array<T>& x, std::uint64_t seed, std::int64_t first,
                             std::int64_t block_min, std::int64_t block_max,
                             std::int64_t scratch_bytes, Array<std::int64_t>& indices,
                             Array<double>& squared, Array<std::int64_t>& labels) {
  const auto rows = matrix_view(x);
  const std::int64_t k = vector_view(indices).size;
  if (k < 1 || k > rows.rows || first >= rows.rows || block_min < 1 || block_max < block_min ||
      vector_view(squared).size != rows.rows || vector_view(labels).size != rows.rows) {
    throw std::invalid_argument("shapes or options of kmeans_plusplus do not agree");
  }
  const SeedingPlan plan{seed, first, block_min, block_max, scratch_bytes};
  const VectorView<std::int64_t> out{indices.mutable_data(), k};
  double* s = squared.mutable_data();
  std::int64_t* l = labels.mutable_data();
  py::gil_scoped_release release;
  return RLMBA_DISPATCH(kmeans_plusplus, rows, plan, out, s, l);
}

template <class T>
void cluster_sums(const Array<T>& x, const Array<std::int64_t>& labels, const Array<double>& magic,
                  Array<double>& sums, Array<std::int64_t>& counts) {
  const auto rows = matrix_view(x);
  const auto l = vector_view(labels);
  const std::int64_t k = vector_view(counts).size;
  if (l.size != rows.rows || vector_view(magic).size != kSumLevels<T>) {
    throw std::invalid_argument("shapes of x, labels and magic do not agree");
  }
  double* s = output(sums, kSumLevels<T> * k * rows.cols);
  std::int64_t* c = output(counts, k);
  py::gil_scoped_release release;
  for (std::int64_t i = 0; i < l.size; ++i) {
    if (l.data[i] < 0 || l.data[i] >= k) throw std::invalid_argument("label out of range");
  }
  RLMBA_DISPATCH(cluster_sums, rows, l.data, k, magic.data(), s, c);
}

template <class T>
void row_pairs(const Array<T>& x, Array<double>& pairs) {
  const auto rows = matrix_view(x);
  double* out = output(pairs, rows.rows * rows.rows);
  py::gil_scoped_release release;
  RLMBA_DISPATCH(row_pairs, rows, out);
}

template <class T>
void register_type(py::module_& m) {
  m.def("row_pairs", &row_pairs<T>, py::arg("x").noconvert(), py::arg("pairs").noconvert());
  m.def("kmeans_plusplus", &kmeans_plusplus<T>, py::arg("x").noconvert(), py::arg("seed"),
        py::arg("first"), py::arg("block_min"), py::arg("block_max"), py::arg("scratch_bytes"),
        py::arg("indices").noconvert(), py::arg("squared").noconvert(),
        py::arg("labels").noconvert());
  m.def("cluster_sums", &cluster_sums<T>, py::arg("x").noconvert(), py::arg("labels").noconvert(),
        py::arg("magic").noconvert(), py::arg("sums").noconvert(), py::arg("counts").noconvert());
}

}  // namespace

void register_kmeans(py::module_& m) {
  register_type<float>(m);
  register_type<double>(m);
  m.attr("kmeans_overflow") = kOverflow;
}

}  // namespace rlmba::bindings

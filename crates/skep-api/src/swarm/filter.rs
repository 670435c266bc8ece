use skep_engine::Filters;
use skep_manager::Filter;
use skep_types::LabelFilter;

/// The filters that lists of all kinds of swarm objects have.
pub(crate) fn common(filters: &Filters) -> Filter {
    Filter {
        id_prefixes: filters.get("id").to_vec(),
        name_prefixes: filters.get("name").to_vec(),
        names: filters.get("names").to_vec(),
        labels: filters
            .get("label")
            .iter()
            .map(|label| LabelFilter::parse_of_swarm(label))
            .collect(),
    }
}

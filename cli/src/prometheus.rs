//! Reads what a process counts: Prometheus' text, as its admin port has it at `/metrics`.

/// A counter or gauge, its series added up; 0 if there is none yet.
pub(crate) fn sum(text: &str, name: &str) -> f64 {
    let values = text.lines().filter_map(|line| line.strip_prefix(name)).filter(|rest| rest.starts_with(['{', ' ']));
    values.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn series_of_one_name_add_up() {
        let text = "# TYPE a_total counter\na_total{peer=\"x y\"} 3\na_total{peer=\"z\"} 4\na_total_more 100\na_sum 1.5\n";
        assert_eq!((sum(text, "a_total"), sum(text, "a_sum"), sum(text, "a")), (7.0, 1.5, 0.0));
    }
}

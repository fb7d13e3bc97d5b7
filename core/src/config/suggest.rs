//! "Did you mean …?"

/// The known name nearest to `given`, if any is near enough to be meant.
pub(crate) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_ascii_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&given, &name.to_ascii_lowercase()), name))
        // Below this, names share a few letters by chance.
        .filter(|(likeness, _)| *likeness >= 0.75)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_found_and_a_stranger_is_not() {
        let known = ["postgres_dsn", "redis_addr", "l1_max_cost", "queue.task_delay"];
        assert_eq!(nearest("postgres_dns", known), Some("postgres_dsn"));
        assert_eq!(nearest("REDIS_ADDRESS", known), Some("redis_addr"));
        assert_eq!(nearest("zzz", known), None);
    }
}

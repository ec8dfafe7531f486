//! The owner of a pod, as far as its name tells.

/// The pod's name without what its controller generated: `web-7d4b9c8f6d-x2x9p` and
/// `job-abcde` lose their suffixes, `db-0` keeps its ordinal's set name.
///
/// Kubernetes generates suffixes from `bcdfghjklmnpqrstvwxz2456789` alone, which no ordinary word
/// uses up by chance often: a five-letter word without vowels at the end of a bare pod's name is
/// the one way to be wrong. The kind of owner cannot be told from a name.
pub fn workload_of(pod: &str) -> &str {
    let Some((rest, last)) = pod.rsplit_once('-') else {
        return pod;
    };
    if rest.is_empty() {
        return pod;
    }
    if last.len() <= 5 && !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()) {
        return rest;
    }
    if last.len() != 5 || !generated(last) {
        return pod;
    }
    match rest.rsplit_once('-') {
        Some((owner, hash))
            if !owner.is_empty() && (6..=10).contains(&hash.len()) && generated(hash) =>
        {
            owner
        }
        // An indexed Job's pods: job, index, suffix.
        Some((owner, index))
            if !owner.is_empty()
                && index.bytes().all(|b| b.is_ascii_digit())
                && !index.is_empty() =>
        {
            owner
        }
        _ => rest,
    }
}

fn generated(part: &str) -> bool {
    part.bytes()
        .all(|b| b"bcdfghjklmnpqrstvwxz2456789".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::workload_of;

    #[test]
    fn suffixes_that_controllers_generate_are_taken_off() {
        for (pod, workload) in [
            ("web-7d4b9c8f6d-x2x9p", "web"),
            ("train-job-x7k2p", "train-job"),
            ("train-job-3-x7k2p", "train-job"),
            ("db-0", "db"),
            ("db-12", "db"),
            ("standalone", "standalone"),
            ("my-notebook", "my-notebook"),
            ("model-llama", "model-llama"),
            ("-abcde", "-abcde"),
            ("a--", "a--"),
            ("", ""),
        ] {
            assert_eq!(workload_of(pod), workload, "{pod}");
        }
    }
}

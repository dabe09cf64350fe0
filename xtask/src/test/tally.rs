//! How many tests ended how, and which skips are all right.

/// How many tests ended how.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: Vec<Skip>,
}

/// A test, or a part of all of this, that was not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Skip {
    /// Which one, after where it is.
    pub(crate) test: String,
    /// Why, once for each thing that it lacked.
    pub(crate) reasons: Vec<String>,
}

impl Skip {
    pub(crate) fn new(test: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { test: test.into(), reasons: vec![reason.into()] }
    }

    /// Whether a machine on which everything can be tested that can be tested without hardware skips this, too.
    pub(crate) fn is_expected(&self) -> bool {
        self.reasons.iter().all(|reason| EXPECTED.iter().any(|expected| expected.covers(&self.test, reason)))
    }
}

impl Tally {
    pub(crate) fn skip(test: &str, reason: impl Into<String>) -> Self {
        Self { skipped: vec![Skip::new(test, reason)], ..Self::default() }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
    }
}

/// A reason to skip that is no defect of the machine.
struct Expected {
    /// What the test's name begins with.
    test: &'static str,
    /// A part of the reason.
    reason: &'static str,
}

impl Expected {
    fn covers(&self, test: &str, reason: &str) -> bool {
        test.starts_with(self.test) && reason.contains(self.reason)
    }
}

/// `--fail-on-skip` accepts these and no others.
const EXPECTED: [Expected; 12] = [
    // Reserving them takes root, and memory that the machine may need otherwise.
    Expected { test: "", reason: "huge pages" },
    // The tests with a card are for people who have one.
    Expected { test: "", reason: "no PCIe card" },
    // Those that need QEMU's cards on a real kernel are counted where they run.
    Expected { test: "", reason: "run it in the lab" },
    // No test by itself: a part of others, which start it and look at how it ends.
    Expected { test: "", reason: "in processes of its own" },
    // Who tests as an ordinary user tests all else.
    Expected { test: "packages", reason: "takes root" },
    // Each row of the lab's matrix is there for what it has, and some for what it lacks.
    Expected { test: "lab small-noiommu:", reason: "this machine has no IOMMU" },
    Expected { test: "lab small:", reason: "this machine has an IOMMU" },
    Expected { test: "lab small-7.3:", reason: "this machine has an IOMMU" },
    Expected { test: "lab debian-", reason: "this machine has an IOMMU" },
    Expected { test: "lab small", reason: "vfio-pci is built in" },
    Expected { test: "lab small", reason: "this kernel knows no NUMA" },
    // Debian builds its kernels without it.
    Expected { test: "lab debian-", reason: "this kernel has no iommufd" },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_should_have_something_may_not_skip_for_the_lack_of_it() {
        let expected = |test: &str, reason: &str| Skip::new(test, reason).is_expected();
        assert!(expected("lab debian-12: iommufd-node", "this kernel has no iommufd"));
        assert!(!expected("lab small: iommufd-node", "this kernel has no iommufd"));
        assert!(!expected("lab small: bind-edu", "this machine has no IOMMU"));
    }

    #[test]
    fn every_reason_has_to_be_expected() {
        let mut skip = Skip::new("memfd: huge", "memory 'huge' needs 1 huge pages of 2 MiB");
        assert!(skip.is_expected());
        skip.reasons.push("it is late".into());
        assert!(!skip.is_expected());
    }
}

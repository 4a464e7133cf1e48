//! What callgrind writes (`callgrind.out`, as its manual's chapter on the format has it): what each function cost, and what it called.

use std::collections::HashMap;

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Profile {
    /// In the order in which the file first names them.
    pub functions: Vec<Function>,
    /// Instructions of all of them.
    pub total: u64,
}

/// One function of the program or of its libraries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Function {
    /// Demangled; `'2` and more behind it where it called itself.
    pub name: String,
    /// Instructions of its own.
    pub own: u64,
    /// How often it was called.
    pub calls: u64,
    /// Instructions of its own and of all that it called; where nobody called it, as far as it is known.
    pub inclusive: u64,
}

impl Profile {
    /// Reads a file that counts instructions. The error says which line is not understood.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader::default();
        for (number, line) in text.lines().enumerate() {
            reader.line(line).ok_or_else(|| format!("line {}: {line}", number + 1))?;
        }
        let mut profile = Self { functions: reader.functions, total: 0 };
        for (function, called) in profile.functions.iter_mut().zip(reader.called) {
            profile.total += function.own;
            if function.calls == 0 {
                function.inclusive = function.own + called;
            }
        }
        Ok(profile)
    }

    /// Calls of the most called of the functions with this in their names.
    pub(super) fn calls_of(&self, part: &str) -> Option<&Function> {
        let named = self.functions.iter().filter(|function| function.name.contains(part) && function.calls > 0);
        named.max_by_key(|function| function.calls)
    }
}

#[derive(Default)]
struct Reader {
    functions: Vec<Function>,
    /// What each function's callees cost.
    called: Vec<u64>,
    by_name: HashMap<String, usize>,
    /// Names stand in the file once, with a number; afterwards the number does for them.
    by_number: HashMap<String, usize>,
    current: Option<usize>,
    callee: Option<usize>,
    /// The next line of costs is that of a call.
    is_call: bool,
}

impl Reader {
    /// `None` if the line is not understood.
    fn line(&mut self, line: &str) -> Option<()> {
        if let Some(name) = line.strip_prefix("fn=") {
            self.current = Some(self.function(name)?);
        } else if let Some(name) = line.strip_prefix("cfn=") {
            self.callee = Some(self.function(name)?);
        } else if let Some(counts) = line.strip_prefix("calls=") {
            let calls: u64 = counts.split_ascii_whitespace().next()?.parse().ok()?;
            self.functions[self.callee?].calls += calls;
            self.is_call = true;
        } else if let Some(events) = line.strip_prefix("events:") {
            return (events.split_ascii_whitespace().next() == Some("Ir")).then_some(());
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            // The place in the source, then what it cost; where it cost nothing, nothing.
            let cost = line.split_ascii_whitespace().nth(1).map_or(Some(0), |cost| cost.parse().ok())?;
            self.cost(cost)?;
        }
        Some(())
    }

    fn cost(&mut self, cost: u64) -> Option<()> {
        let current = self.current?;
        if !std::mem::take(&mut self.is_call) {
            self.functions[current].own += cost;
            return Some(());
        }
        let callee = self.callee?;
        // What calls itself has the inner call in the outer one already.
        if callee != current {
            self.functions[callee].inclusive += cost;
            self.called[current] += cost;
        }
        Some(())
    }

    /// `(12) name`, `(12)` or `name`.
    fn function(&mut self, written: &str) -> Option<usize> {
        let numbered = written.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let (number, name) = match numbered {
            Some((number, name)) if number.bytes().all(|byte| byte.is_ascii_digit()) => (number, name.trim_start()),
            _ => ("", written),
        };
        if name.is_empty() {
            return self.by_number.get(number).copied();
        }
        let next = self.functions.len();
        let index = *self.by_name.entry(name.to_owned()).or_insert(next);
        if index == next {
            self.functions.push(Function { name: name.to_owned(), ..Function::default() });
            self.called.push(0);
        }
        self.by_number.insert(number.to_owned(), index);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// `main` calls `<magpie::Router as Trait>::route` three times, which calls `memcpy` and itself.
    const SOME: &str = "\
# callgrind format
version: 1
creator: callgrind-3.19.0
cmd: magpie serve
part: 1

positions: line
events: Ir
summary: 1234

ob=(1) /bin/magpie
fl=(1) main.rs
fn=(1) main
10 100
+2 20
cfi=(2) router.rs
cfn=(2) <magpie::Router as Trait>::route
calls=3 40
* 660

fl=(2)
fn=(2)
40 300
fe=(3) lib.rs
-5 60
fi=(2)
cob=(2) libc.so
cfi=(4) ???
cfn=(3) memcpy
calls=6 0
+1 300
cfn=(2)
calls=1 40
* 220

ob=(2)
fl=(4)
fn=(3)
0 300

totals: 780
";

    fn function(profile: &Profile, name: &str) -> (u64, u64, u64) {
        let found = profile.functions.iter().find(|function| function.name == name).unwrap();
        (found.own, found.calls, found.inclusive)
    }

    #[test]
    fn each_function_has_its_own_cost_its_calls_and_what_it_called() {
        let profile = Profile::parse(SOME).unwrap();
        assert_eq!(profile.total, 780);
        assert_eq!(function(&profile, "main"), (120, 0, 780));
        assert_eq!(function(&profile, "<magpie::Router as Trait>::route"), (360, 4, 660));
        assert_eq!(function(&profile, "memcpy"), (300, 6, 300));
        assert_eq!(profile.functions.len(), 3);
    }

    #[test]
    fn the_most_called_function_of_a_name_is_found_and_one_that_was_not_called_is_not() {
        let profile = Profile::parse(SOME).unwrap();
        assert_eq!(profile.calls_of("m").unwrap().name, "memcpy");
        assert_eq!(profile.calls_of("Router").unwrap().calls, 4);
        assert_eq!(profile.calls_of("main"), None);
        assert_eq!(profile.calls_of("nobody"), None);
    }

    #[test]
    fn names_may_stand_without_numbers_and_costs_may_be_left_out() {
        let profile = Profile::parse("events: Ir\nfn=a\n1 5\n2\ncfn=b\ncalls=2 7\n3 8\nfn=b\n7 8\n").unwrap();
        assert_eq!(function(&profile, "a"), (5, 0, 13));
        assert_eq!(function(&profile, "b"), (8, 2, 8));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let error = |text: &str| Profile::parse(text).unwrap_err();
        assert_eq!(error("events: Cycles\n"), "line 1: events: Cycles");
        assert_eq!(error("events: Ir\nfn=(1)\n"), "line 2: fn=(1)");
        assert_eq!(error("fn=a\n1 x\n"), "line 2: 1 x");
        assert_eq!(error("1 5\n"), "line 1: 1 5");
        assert_eq!(error("fn=a\ncalls=1 2\n"), "line 2: calls=1 2");
    }
}

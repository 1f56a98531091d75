//! The services of the order platform share one package and nothing else.
//!
//! They speak through events and see only `crate::contracts` and what the crate offers to
//! every service alike. Four crates would enforce the same at the price of four manifests,
//! and would read worse.

use super::{Fault, line_at};

const SOURCES: &str = "apps/orders/src/";

/// A service is a module at the root of the crate: `order.rs`, `order/` and `order_*.rs`.
const SERVICES: &[&str] = &["notification", "order", "payment", "stock", "users"];

/// No service names a module of another one.
pub(super) fn share_only_contracts(path: &str, text: &str) -> Vec<Fault> {
    let Some(service) = path.strip_prefix(SOURCES).and_then(service_of_file) else {
        return Vec::new();
    };
    let code = without_comment_lines(text);
    let mut faults = Vec::new();
    for (offset, module) in modules_named_from_the_root(&code) {
        if let Some(other) = service_of_module(module)
            && other != service
        {
            let rule = format!(
                "service `{service}` may not see `crate::{module}` of service `{other}`: \
                 they share only `crate::contracts`"
            );
            faults.push(Fault::new(line_at(&code, offset), rule));
        }
    }
    faults
}

/// The service that owns a file, by its path below `src/`.
fn service_of_file(path: &str) -> Option<&'static str> {
    let first = path.split('/').next()?;
    service_of_module(first.strip_suffix(".rs").unwrap_or(first))
}

fn service_of_module(module: &str) -> Option<&'static str> {
    let owns = |service: &&str| {
        module
            .strip_prefix(*service)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    SERVICES.iter().copied().find(owns)
}

/// The text with its comment lines emptied, so that prose may name what code may not.
fn without_comment_lines(text: &str) -> String {
    let keep = |line: &str| {
        if line.trim_start().starts_with("//") {
            "\n"
        } else {
            line
        }
        .to_owned()
    };
    text.split_inclusive('\n').map(keep).collect()
}

/// The first module of every path that starts at `crate::`, with where it stands; those of a
/// group, `crate::{a, b::c}`, one by one.
fn modules_named_from_the_root(code: &str) -> Vec<(usize, &str)> {
    const ROOT: &str = "crate::";
    let mut named = Vec::new();
    for (start, _) in code.match_indices(ROOT) {
        // `$crate::` and `other_crate::` are other paths.
        let before = code[..start].chars().next_back();
        if before.is_some_and(|before| before == '$' || is_word(before)) {
            continue;
        }
        let rest = start + ROOT.len();
        match code[rest..].strip_prefix('{') {
            None => named.push(word_at(code, rest)),
            Some(group) => {
                let starts = starts_of_group(group).into_iter();
                named.extend(starts.map(|start| word_at(code, rest + '{'.len_utf8() + start)));
            }
        }
    }
    named
}

/// Where the members of a group start; `group` is what follows its opening brace.
fn starts_of_group(group: &str) -> Vec<usize> {
    let mut starts = vec![0];
    let mut depth = 0;
    for (offset, symbol) in group.char_indices() {
        match symbol {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => starts.push(offset + 1),
            _ => {}
        }
    }
    starts
}

/// The word after any white space at `start`, with where it stands.
fn word_at(code: &str, start: usize) -> (usize, &str) {
    let rest = &code[start..];
    let word = rest.trim_start();
    let end = word.find(|symbol| !is_word(symbol)).unwrap_or(word.len());
    (start + rest.len() - word.len(), &word[..end])
}

fn is_word(symbol: char) -> bool {
    symbol.is_alphanumeric() || symbol == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(file: &str, text: &str) -> Vec<usize> {
        let faults = share_only_contracts(&format!("apps/orders/src/{file}"), text);
        faults.into_iter().map(|fault| fault.line).collect()
    }

    #[test]
    fn a_service_may_not_use_another() {
        assert_eq!(lines("order.rs", "use crate::payment::Charge;\n"), [1]);
        assert_eq!(lines("order/http.rs", "//! O.\n\nuse crate::stock;\n"), [3]);
        assert_eq!(lines("order_view.rs", "use crate::users::User;\n"), [1]);
        assert_eq!(lines("stock/mod.rs", "use crate::order_view::Row;\n"), [1]);
    }

    #[test]
    fn a_path_in_an_expression_counts_as_well() {
        assert_eq!(
            lines(
                "stock.rs",
                "fn f() {\n    crate::notification::send();\n}\n"
            ),
            [2]
        );
    }

    #[test]
    fn a_group_is_read_member_by_member() {
        let text =
            "use crate::{\n    contracts::{order::Placed, stock},\n    payment::Charge,\n};\n";

        assert_eq!(lines("order.rs", text), [3]);
        assert_eq!(
            lines("users.rs", "use crate::{money, stock};\nuse crate::http;\n"),
            [1]
        );
    }

    #[test]
    fn what_all_services_share_is_free() {
        let text = "use crate::contracts::payment::Paid;\nuse crate::http::Problem;\n\
                    use crate::ordering::Sorted;\nuse payment_gateway::order;\n\
                    use my_crate::stock::X;\n";

        assert_eq!(lines("order.rs", text), []);
    }

    #[test]
    fn a_service_may_use_itself() {
        assert_eq!(
            lines("order/http.rs", "use crate::order::OrderEvent;\n"),
            []
        );
        assert_eq!(lines("order/http.rs", "use crate::order_view::Row;\n"), []);
    }

    #[test]
    fn prose_may_name_another_service() {
        let text = "//! After [`crate::payment`] comes this.\n    // See crate::users.\n";

        assert_eq!(lines("stock.rs", text), []);
    }

    #[test]
    fn the_rest_of_the_application_wires_the_services_together() {
        assert_eq!(lines("main.rs", "use crate::{order, payment};\n"), []);
        assert_eq!(lines("demo/tour.rs", "use crate::order::Order;\n"), []);
        assert_eq!(lines("ordering.rs", "use crate::stock::Stock;\n"), []);
    }
}

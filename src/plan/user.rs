//! Who the job is inside: `user` and the image's User looked up in the image's passwd and group.

use super::given::{Found, Given};
use super::{Id, ImageKind, codes, host_root};
use crate::profile::User;

/// Who a job is that says nothing and whose image would be root (profile `strict`).
const NOBODY_IN_PARTICULAR: u32 = 65532;

/// Who the job is inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) user: Id,
    pub(super) group: Id,
    /// Supplementary groups, from the group file.
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

impl Person {
    pub(super) fn is_root(&self) -> bool {
        self.user == Id::Number(0)
    }

    fn plain(id: u32, home: String) -> Person {
        Person {
            user: Id::Number(id),
            group: Id::Number(id),
            groups: Vec::new(),
            home,
        }
    }
}

/// The accounts of an image.
struct Accounts<'a> {
    passwd: &'a str,
    group: &'a str,
}

/// A line of passwd.
struct Account<'a> {
    name: &'a str,
    user: u32,
    group: u32,
    home: &'a str,
}

/// One side of `user:group`.
enum Word<'a> {
    Number(u32),
    Name(&'a str),
}

/// Finds out who the job is.
pub(super) fn person(given: Given<'_>, found: &mut Found) -> Person {
    let image = given.image;
    let accounts = match image.kind {
        ImageKind::Host => Accounts {
            passwd: host_root::PASSWD,
            group: host_root::GROUP,
        },
        ImageKind::Layers | ImageKind::Dir => Accounts {
            passwd: &image.passwd,
            group: &image.group,
        },
    };
    let unnamed = || Person::plain(NOBODY_IN_PARTICULAR, accounts.home(NOBODY_IN_PARTICULAR));
    let user = &given.job.user;
    match &user.value {
        User::Named(text) => match accounts.look_up(text) {
            Ok(person) if person.is_root() && !says_root(text) => {
                found.refuse(
                    codes::ROOT_UNSAID,
                    user.span(),
                    format!(
                        "user `{}` is root in the image's /etc/passwd",
                        text.escape_debug()
                    ),
                    "write `user = \"root\"` if root inside is meant",
                );
                person
            }
            Ok(person) => person,
            Err(why) => {
                found.refuse(
                    codes::NO_USER,
                    user.span(),
                    format!("user `{}` {why}", text.escape_debug()),
                    "write a name of the image, or a number such as `user = \"1000\"` or `user = \"1000:1000\"`",
                );
                unnamed()
            }
        },
        User::Caller if !given.as_root() => Person {
            user: Id::Caller,
            group: Id::Caller,
            groups: Vec::new(),
            home: "/".to_owned(),
        },
        rule => {
            let text = match image.config.user.as_str() {
                "" => "0",
                _ if *rule == User::Caller => "0",
                text => text,
            };
            match accounts.look_up(text) {
                Ok(person) if person.is_root() && *rule == User::ImageUnlessRoot => unnamed(),
                Ok(person) => person,
                Err(why) => {
                    found.refuse(
                        codes::NO_USER,
                        given.job.image.span(),
                        format!("the image's user `{}` {why}", text.escape_debug()),
                        "write `user` in the job",
                    );
                    unnamed()
                }
            }
        }
    }
}

/// Whether a manifest's text says that root is meant.
fn says_root(text: &str) -> bool {
    matches!(text.split(':').next(), Some("root" | "0"))
}

impl<'a> Accounts<'a> {
    /// Looks up `user` or `user:group`, as Docker does: supplementary groups only where no group is written.
    fn look_up(&self, text: &'a str) -> Result<Person, String> {
        let (user, group) = match text.split_once(':') {
            Some((_, group)) if group.contains(':') => return Err("has more than one colon".to_owned()),
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let (id, account) = match word(user)? {
            // A number is a number, even where a hostile passwd has it as a name (CVE-2026-30892).
            Word::Number(id) => (id, self.account(|account| account.user == id)),
            Word::Name(name) => match self.account(|account| account.name == name) {
                Some(account) => (account.user, Some(account)),
                None if name == "root" => (0, None),
                None => return Err("is not in the image's /etc/passwd".to_owned()),
            },
        };
        let mut person = Person {
            user: Id::Number(id),
            group: Id::Number(account.as_ref().map_or(0, |account| account.group)),
            groups: Vec::new(),
            home: account.as_ref().map_or("/", |account| account.home).to_owned(),
        };
        match (group.map(word).transpose()?, account) {
            (Some(Word::Number(id)), _) => person.group = Id::Number(id),
            (Some(Word::Name(name)), _) => {
                let id = self
                    .groups()
                    .find(|(group, _, _)| *group == name)
                    .map(|(_, id, _)| id);
                let id = id.or((name == "root").then_some(0));
                person.group = Id::Number(id.ok_or_else(|| {
                    format!("names the group `{name}`, which is not in the image's /etc/group")
                })?);
            }
            (None, Some(account)) => {
                let member = |members: &str| members.split(',').any(|member| member == account.name);
                person.groups = self
                    .groups()
                    .filter(|(_, _, members)| member(members))
                    .map(|(_, id, _)| id)
                    .collect();
                person.groups.sort_unstable();
                person.groups.dedup();
            }
            (None, None) => {}
        }
        Ok(person)
    }

    fn home(&self, id: u32) -> String {
        let account = self.account(|account| account.user == id);
        account.map_or("/", |account| account.home).to_owned()
    }

    /// The first line of passwd that fits; lines that are no accounts are passed over, as getpwent(3) does.
    fn account(&self, fits: impl Fn(&Account<'a>) -> bool) -> Option<Account<'a>> {
        self.passwd
            .lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                let [name, _, user, group, rest @ ..] = fields.as_slice() else {
                    return None;
                };
                let home = rest
                    .get(1)
                    .copied()
                    .filter(|home| super::place::unfit(home).is_none());
                Some(Account {
                    name,
                    user: number(user).ok()?,
                    group: number(group).ok()?,
                    home: home.unwrap_or("/"),
                })
            })
            .find(|account| fits(account))
    }

    /// Name, id and members of every group.
    fn groups(&self) -> impl Iterator<Item = (&'a str, u32, &'a str)> {
        self.group.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, id, members, ..] = fields.as_slice() else {
                return None;
            };
            Some((*name, number(id).ok()?, *members))
        })
    }
}

fn word(text: &str) -> Result<Word<'_>, String> {
    if text.is_empty() {
        return Err("has an empty part".to_owned());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return number(text).map(Word::Number);
    }
    let letter = |c: char| c.is_alphabetic() || c == '_';
    let fits = text.starts_with(letter)
        && text
            .chars()
            .all(|c| letter(c) || c.is_numeric() || "-.$@".contains(c));
    match fits {
        true => Ok(Word::Name(text)),
        false => Err("is neither a name nor a number".to_owned()),
    }
}

/// A decimal id. The last one is `(uid_t) -1`, which setresuid(2) takes for "leave it as it is".
fn number(text: &str) -> Result<u32, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("is not a number".to_owned());
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err("has a leading zero".to_owned());
    }
    text.parse()
        .ok()
        .filter(|id| *id < u32::MAX)
        .ok_or_else(|| "has an id above 4294967294".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::host::facts::Caller;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n1000:x:0:0::/:\nbroken\napp:x:1000:1001:App:/home/app:/bin/sh\n\
                          evil:x:0:0::/:/bin/sh\nbig:x:4294967295:0::/:\nway:x:1:1::../../proc:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nvideo:x:44:app,other\naudio:x:29:app\nstaff:x:50:\nbroken:x\n";

    fn who(user: User, image_user: &str, caller: Caller) -> Result<Person, String> {
        let mut sample = sample::strict();
        sample.job.user = sample::placed(user, 7);
        sample.image.config.user = image_user.to_owned();
        sample.image.passwd = PASSWD.to_owned();
        sample.image.group = GROUP.to_owned();
        sample.facts.caller = caller;
        let mut found = Found::default();
        let person = person(sample.given(), &mut found);
        match found.problems.first() {
            Some(problem) => Err(format!("{}; {}", problem.message, problem.help)),
            None => Ok(person),
        }
    }

    fn ids(person: &Person) -> (Id, Id, &[u32], &str) {
        (person.user, person.group, &person.groups, &person.home)
    }

    #[test]
    fn names_and_numbers_are_read_as_docker_does() {
        let named = |text: &str| who(User::Named(text.to_owned()), "", Caller::Root);
        let number = Id::Number;
        for (text, user, group, groups, home) in [
            ("app", 1000, 1001, &[29, 44][..], "/home/app"),
            ("1000", 1000, 1001, &[29, 44], "/home/app"),
            ("app:staff", 1000, 50, &[], "/home/app"),
            ("1000:0", 1000, 0, &[], "/home/app"),
            ("4711", 4711, 0, &[], "/"),
            ("root", 0, 0, &[], "/root"),
            ("0", 0, 0, &[], "/root"),
            ("root:staff", 0, 50, &[], "/root"),
            ("way", 1, 1, &[], "/"),
        ] {
            let person = named(text).expect(text);
            assert_eq!(
                ids(&person),
                (number(user), number(group), groups, home),
                "{text}"
            );
        }
    }

    #[test]
    fn doubtful_users_are_refused() {
        for (text, why) in [
            ("+0", "is neither a name nor a number"),
            ("0x0", "is neither a name nor a number"),
            (" 0", "is neither a name nor a number"),
            ("-1", "is neither a name nor a number"),
            ("root\n", "is neither a name nor a number"),
            ("4294967295", "has an id above 4294967294"),
            ("4294967296", "has an id above 4294967294"),
            ("99999999999999999999", "has an id above 4294967294"),
            ("00", "has a leading zero"),
            ("1000:1000:x", "has more than one colon"),
            (":5", "has an empty part"),
            ("5:", "has an empty part"),
            ("", "has an empty part"),
            ("nobody", "is not in the image's /etc/passwd"),
            ("big", "is not in the image's /etc/passwd"),
            ("app:4294967295", "has an id above 4294967294"),
            (
                "app:none",
                "names the group `none`, which is not in the image's /etc/group",
            ),
        ] {
            let error = who(User::Named(text.to_owned()), "", Caller::Root).expect_err(text);
            let shown = text.escape_debug();
            assert_eq!(
                error,
                format!(
                    "user `{shown}` {why}; write a name of the image, or a number such as `user = \"1000\"` or `user = \"1000:1000\"`"
                )
            );
        }
        assert_eq!(
            who(User::Named("evil".into()), "", Caller::Root).expect_err("evil"),
            "user `evil` is root in the image's /etc/passwd; write `user = \"root\"` if root inside is meant"
        );
    }

    #[test]
    fn a_profile_that_takes_the_images_user_says_what_root_means() {
        let root = |rule, text: &str| who(rule, text, Caller::Root).map(|person| (person.user, person.group));
        let id = |user, group| Ok((Id::Number(user), Id::Number(group)));
        for text in ["", "0", "root", "0:50", "evil"] {
            assert_eq!(root(User::ImageUnlessRoot, text), id(65532, 65532), "{text}");
        }
        assert_eq!(root(User::ImageUnlessRoot, "app"), id(1000, 1001));
        assert_eq!(root(User::Image, ""), id(0, 0));
        assert_eq!(root(User::Image, "0:50"), id(0, 50));
        assert_eq!(
            root(User::Image, "none"),
            Err(
                "the image's user `none` is not in the image's /etc/passwd; write `user` in the job"
                    .to_owned()
            )
        );
    }

    #[test]
    fn the_caller_is_a_number_only_for_root() {
        let caller = who(User::Caller, "app", Caller::User).expect("the caller");
        assert_eq!(ids(&caller), (Id::Caller, Id::Caller, &[][..], "/"));
        let root = who(User::Caller, "app", Caller::Root).expect("root");
        assert_eq!(ids(&root), (Id::Number(0), Id::Number(0), &[][..], "/root"));
    }
}

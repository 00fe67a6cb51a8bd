//! The keys that a type is deserialized from, as the code that serde derives for it tells them.

use std::collections::BTreeSet;

use serde::{
    Deserializer, de,
    de::{DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor},
    forward_to_deserialize_any,
};

type Error = de::value::Error;

/// From an object or a list to what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Key(&'static str),
    Item,
}

/// What a parser asked for at the end of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Object(&'static [&'static str]),
    List,
    /// A value, or an object that takes any key.
    Value,
}

/// An input in which there is nothing but one way, which ends as soon as the parser has told what it wants there.
struct Input<'a> {
    way: &'a [Step],
    asked: &'a mut Option<Asked>,
}

/// The one key of an object, or the one item of a list.
struct Only<'a>(Option<(Step, Input<'a>)>);

/// The keys of the values that a type can have, with the ways to them: `runtimeConfig.portMappings[].hostPort`. A list of
/// values and an object that takes any key are keys themselves.
///
/// # Panics
/// If the type refuses an input before it has told what it takes.
pub fn keys<T: DeserializeOwned>() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut due: Vec<Vec<Step>> = vec![Vec::new()];
    while let Some(way) = due.pop() {
        let mut asked = None;
        let input = Input {
            way: &way,
            asked: &mut asked,
        };
        let refused = T::deserialize(input).err();
        match asked {
            Some(Asked::Object(fields)) => {
                let below = |field: &&'static str| [&*way, &[Step::Key(field)]].concat();
                due.extend(fields.iter().map(below));
            }
            Some(Asked::List) => due.push([&*way, &[Step::Item]].concat()),
            Some(Asked::Value) => {
                found.insert(name(&way));
            }
            None => panic!("{} asked for nothing: {refused:?}", name(&way)),
        }
    }
    found
}

fn name(way: &[Step]) -> String {
    let mut name = String::new();
    for step in way {
        match step {
            Step::Key(key) if name.is_empty() => name.push_str(key),
            Step::Key(key) => name.extend([".", key]),
            Step::Item => name.push_str("[]"),
        }
    }
    name.trim_end_matches("[]").to_owned()
}

// === impl Input ===

impl<'a> Input<'a> {
    fn stop<T>(self, asked: Asked) -> Result<T, Error> {
        *self.asked = Some(asked);
        Err(de::Error::custom("told"))
    }

    /// What is in it; `None` at the end of the way.
    fn only(self) -> Result<Only<'a>, Self> {
        match self.way {
            [] => Err(self),
            [step, way @ ..] => {
                let asked = self.asked;
                Ok(Only(Some((*step, Input { way, asked }))))
            }
        }
    }
}

impl<'de> Deserializer<'de> for Input<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        self.stop(Asked::Value)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.only() {
            Ok(only) => visitor.visit_seq(only),
            Err(end) => end.stop(Asked::List),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.only() {
            Ok(only) => visitor.visit_map(only),
            Err(end) => end.stop(Asked::Object(fields)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        tuple tuple_struct map enum identifier ignored_any
    }
}

// === impl Only ===

impl<'de> MapAccess<'de> for Only<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        match self.0 {
            Some((Step::Key(key), _)) => seed.deserialize(key.into_deserializer()).map(Some),
            _ => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (_, input) = self.0.take().ok_or_else(|| de::Error::custom("no value"))?;
        seed.deserialize(input)
    }
}

impl<'de> SeqAccess<'de> for Only<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let item = self.0.take();
        item.map(|(_, input)| seed.deserialize(input)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    #[derive(Default)]
    #[allow(dead_code)]
    struct Outer {
        a_number: u8,
        a_list: Vec<String>,
        ranges: Vec<Vec<Inner>>,
        maybe: Option<Inner>,
        map: BTreeMap<String, Inner>,
        json: serde_json::Value,
    }

    #[derive(Default, Deserialize)]
    #[allow(dead_code)]
    struct Inner {
        #[serde(rename = "fromID")]
        from: u8,
        to: Option<u8>,
    }

    #[test]
    fn keys_are_told_with_the_ways_to_them() {
        let expected = [
            "aList",
            "aNumber",
            "json",
            "map",
            "maybe.fromID",
            "maybe.to",
            "ranges[][].fromID",
            "ranges[][].to",
        ];
        assert_eq!(
            keys::<Outer>(),
            expected.map(str::to_owned).into_iter().collect()
        );
    }
}

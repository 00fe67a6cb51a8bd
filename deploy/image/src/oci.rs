//! The image as one archive, in the OCI image layout (OCI image specification 1.1, image-layout.md), which
//! `ctr image import`, `podman load` and `kind load image-archive` take. `manifest.json` beside it is for
//! `docker load`.

use std::{collections::HashMap, io::Write, path::Path, str::FromStr};

use anyhow::Context;
use flate2::{Compression, GzBuilder};
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, DescriptorBuilder, Digest, HistoryBuilder,
    ImageConfigurationBuilder, ImageIndexBuilder, ImageManifestBuilder, MediaType, Os,
    RootFsBuilder, SCHEMA_VERSION,
};
use serde_json::json;

use crate::{
    digest::sha256,
    root_fs::{Node, RootFs},
};

/// What is said about an image.
#[derive(Clone, Debug)]
pub struct About {
    /// Its name with tag, as a runtime shows it: `tweed.local/tweed:0.1.0`.
    pub reference: String,
    /// When it was made, in seconds since 1970: the time of the commit.
    pub created: u64,
    /// What is known of it, by the keys of the specification (annotations.md).
    pub labels: HashMap<String, String>,
}

/// A layer: what it holds, and how it came to be.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its files.
    pub files: RootFs,
    /// A line for `history`.
    pub made_by: String,
}

/// The archive that is being filled.
#[derive(Debug, Default)]
struct Layout {
    files: RootFs,
}

// === impl Layout ===

impl Layout {
    fn file(&mut self, path: impl AsRef<Path>, contents: Vec<u8>) {
        let file = Node::File {
            executable: false,
            contents,
        };
        self.files.insert(path.as_ref(), file);
    }

    fn blob(&mut self, media_type: MediaType, contents: Vec<u8>) -> anyhow::Result<Descriptor> {
        let digest = sha256(&contents);
        let descriptor = DescriptorBuilder::default()
            .media_type(media_type)
            .size(contents.len() as u64)
            .digest(Digest::from_str(&format!("sha256:{digest}"))?)
            .build()?;
        self.file(format!("blobs/sha256/{digest}"), contents);
        Ok(descriptor)
    }
}

/// The archive of an image, uncompressed (its layers are compressed).
pub fn archive(layers: &[Layer], about: &About) -> anyhow::Result<Vec<u8>> {
    let mut layout = Layout::default();
    let mut descriptors = Vec::new();
    let mut diff_ids = Vec::new();
    for layer in layers {
        let tar = layer.files.to_tar(about.created)?;
        diff_ids.push(format!("sha256:{}", sha256(&tar)));
        descriptors.push(layout.blob(MediaType::ImageLayerGzip, compressed(&tar)?)?);
    }
    let configuration = configuration(layers, about, diff_ids)?;
    let config = layout.blob(MediaType::ImageConfig, configuration)?;
    let docker = docker_manifest(about, &config, &descriptors);
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(descriptors)
        .build()?;
    let mut manifest = layout.blob(MediaType::ImageManifest, manifest.to_string()?.into_bytes())?;
    manifest.set_annotations(Some(names(about)));
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests([manifest])
        .build()?;
    layout.file("index.json", sorted(&index.to_string()?)?);
    layout.file("manifest.json", docker);
    let version = json!({"imageLayoutVersion": "1.0.0"});
    layout.file("oci-layout", version.to_string().into_bytes());
    layout
        .files
        .to_tar(about.created)
        .context("write the archive")
}

fn configuration(
    layers: &[Layer],
    about: &About,
    diff_ids: Vec<String>,
) -> anyhow::Result<Vec<u8>> {
    let created = jiff::Timestamp::from_second(about.created.try_into()?)?.to_string();
    let history = layers
        .iter()
        .map(|layer| {
            let history = HistoryBuilder::default();
            history
                .created(created.clone())
                .created_by(layer.made_by.clone())
                .build()
        })
        .collect::<Result<Vec<_>, _>>()?;
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let config = ConfigBuilder::default()
        .env([path.to_owned()])
        .labels(about.labels.clone())
        .working_dir("/")
        .build()?;
    let configuration = ImageConfigurationBuilder::default()
        .created(created)
        .architecture(Arch::Amd64)
        .os(Os::Linux)
        .config(config)
        .rootfs(
            RootFsBuilder::default()
                .typ("layers")
                .diff_ids(diff_ids)
                .build()?,
        )
        .history(history)
        .build()?;
    sorted(&configuration.to_string()?)
}

/// The image's name, for runtimes that ask for all of it and for those that ask for the tag.
fn names(about: &About) -> HashMap<String, String> {
    let tag = about.reference.rsplit(':').next().unwrap_or_default();
    HashMap::from([
        (
            "io.containerd.image.name".to_owned(),
            about.reference.clone(),
        ),
        (
            "org.opencontainers.image.ref.name".to_owned(),
            tag.to_owned(),
        ),
    ])
}

/// `docker save`'s table of contents.
fn docker_manifest(about: &About, config: &Descriptor, layers: &[Descriptor]) -> Vec<u8> {
    let path = |it: &Descriptor| format!("blobs/sha256/{}", it.digest().digest());
    let layers: Vec<_> = layers.iter().map(path).collect();
    json!([{"Config": path(config), "RepoTags": [about.reference], "Layers": layers}])
        .to_string()
        .into_bytes()
}

/// The same JSON with its keys in order: hash maps print theirs in any.
fn sorted(json: &str) -> anyhow::Result<Vec<u8>> {
    let mut value: serde_json::Value = serde_json::from_str(json)?;
    value.sort_all_objects();
    Ok(serde_json::to_vec(&value)?)
}

fn compressed(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    // No name and no time in the header.
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{collections::BTreeMap, io::Read};

    use super::*;

    fn image() -> (Vec<Layer>, About) {
        let mut files = RootFs::default();
        files.link("sbin", "usr/sbin");
        let made_by = "a test".to_owned();
        let labels = ["a", "b", "c", "d"].map(|key| (key.to_owned(), key.to_owned()));
        let about = About {
            reference: "example.org/tweed:1".into(),
            created: 1_700_000_000,
            labels: labels.into(),
        };
        (vec![Layer { files, made_by }], about)
    }

    #[test]
    fn one_image_is_one_archive() {
        let (layers, about) = image();
        let one = archive(&layers, &about).unwrap();
        for _ in 0..5 {
            let (layers, about) = image();
            assert!(archive(&layers, &about).unwrap() == one);
        }
    }

    #[test]
    fn every_blob_has_the_digest_that_it_is_named_by() {
        let (layers, about) = image();
        let bytes = archive(&layers, &about).unwrap();
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).unwrap();
            if let Some(digest) = path
                .strip_prefix("blobs/sha256/")
                .filter(|it| !it.is_empty())
            {
                assert_eq!(sha256(&contents), digest);
            }
            files.insert(path, contents);
        }
        let index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap();
        let name = digest.replace("sha256:", "blobs/sha256/");
        let manifest: serde_json::Value = serde_json::from_slice(&files[&name]).unwrap();
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
        assert!(files.contains_key("manifest.json"));
    }
}

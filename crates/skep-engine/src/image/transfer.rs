//! Images in and out: pull, push, load, save, import.

use std::future::Future;

use bollard_stubs::models::{
    CreateImageInfo, DistributionInspect, OciDescriptor, OciPlatform, ProgressDetail,
};
use futures::StreamExt;
use futures::future::BoxFuture;
use skep_image::{Credentials, Event, ImportOptions, Platform, Progress, Reference};
use tokio::io::AsyncRead;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{ProgressStream, PullOptions};
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::options::ByteStream;
use crate::stream;

impl Engine {
    /// Pulls an image. Parameters are checked before this returns; a failure later is the last item.
    /// Dropping the stream cancels the pull.
    ///
    /// # Errors
    /// `Invalid` names and platforms.
    pub async fn image_pull(&self, options: PullOptions) -> Result<ProgressStream> {
        let parse = |text: &str| Reference::parse(text).map_err(skep_image::Error::from);
        let reference = parse(&match options.tag.as_deref().filter(|t| !t.is_empty()) {
            None => options.name.clone(),
            Some(tag) if tag.contains(':') => format!("{}@{tag}", options.name),
            Some(tag) => format!("{}:{tag}", options.name),
        })?;
        let platform = match options.platform.as_deref().filter(|p| !p.is_empty()) {
            Some(text) => Some(Platform::parse(text).map_err(skep_image::Error::from)?),
            None => None,
        };
        let (progress, events) = Progress::channel();
        let work = self.clone().pull_all(reference, platform, options.credentials, progress);
        Ok(progress_stream(events, work))
    }

    async fn pull_all(
        self,
        reference: Reference,
        platform: Option<Platform>,
        credentials: Credentials,
        progress: Progress,
    ) -> Result<Vec<CreateImageInfo>> {
        let mut references = Vec::new();
        if reference.is_name_only() {
            for tag in self.inner.images.remote_tags(&reference, &credentials).await? {
                references.push(reference.with_tag(&tag).map_err(skep_image::Error::from)?);
            }
        } else {
            references.push(reference);
        }
        for reference in references {
            // Boxed by type: the compiler cannot see through the whole future that it may move threads.
            let pull: BoxFuture<'_, _> = Box::pin(self.inner.images.pull(
                &reference,
                platform.as_ref(),
                &credentials,
                progress.clone(),
            ));
            let pulled = pull.await?;
            let name = reference.familiar();
            self.image_event("pull", &name, &reference.familiar_name());
            tracing::info!(image = name, id = %pulled.id, changed = pulled.changed, "image pulled");
        }
        Ok(Vec::new())
    }

    /// Pushes an image; every tag of the repository when `tag` is `None`.
    ///
    /// # Errors
    /// `Invalid` names; `NotFound` without such an image.
    pub async fn image_push(
        &self,
        name: &str,
        tag: Option<&str>,
        credentials: Credentials,
    ) -> Result<ProgressStream> {
        let parse = |text: &str| Reference::parse(text).map_err(skep_image::Error::from);
        let reference = match tag.filter(|t| !t.is_empty()) {
            Some(tag) => parse(&format!("{name}:{tag}"))?,
            None => parse(name)?,
        };
        let references = if reference.is_name_only() {
            let repository = reference.familiar_name();
            let all = self
                .inner
                .images
                .list(&skep_image::ListFilter { all: true, ..Default::default() })?;
            let mut names: Vec<String> = all
                .iter()
                .flat_map(|i| i.repo_tags.clone())
                .filter(|t| t.rsplit_once(':').is_some_and(|(name, _)| name == repository))
                .collect();
            names.sort();
            names.iter().map(|n| Ok(parse(n)?)).collect::<Result<Vec<_>>>()?
        } else {
            self.inner.images.get(&reference.familiar())?;
            vec![reference.clone()]
        };
        if references.is_empty() {
            return Err(EngineError::NotFound(format!(
                "An image does not exist locally with the tag: {}",
                reference.familiar_name()
            )));
        }
        let (progress, events) = Progress::channel();
        let this = self.clone();
        let work = async move {
            let mut last = Vec::new();
            for reference in references {
                let pushed =
                    this.inner.images.push(&reference, &credentials, progress.clone()).await?;
                this.image_event("push", &reference.familiar(), &reference.familiar_name());
                last.push(status(format!(
                    "{}: digest: {} size: {}",
                    pushed.tag, pushed.digest, pushed.size
                )));
            }
            Ok(last)
        };
        Ok(progress_stream(events, work))
    }

    /// Loads an archive of images.
    ///
    /// # Errors
    /// None at once; a failure is the last item.
    pub async fn image_load<R>(&self, archive: R, quiet: bool) -> Result<ProgressStream>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let (progress, events) = if quiet {
            let (_, events) = Progress::channel();
            (Progress::none(), events)
        } else {
            Progress::channel()
        };
        let this = self.clone();
        let work = async move {
            let mut last = Vec::new();
            for loaded in this.inner.images.load(archive, progress).await? {
                let id = loaded.id.to_string();
                for (name, old) in &loaded.replaced {
                    last.push(status(format!(
                        "The image {name} already exists, renaming the old one with ID {old} to empty string"
                    )));
                }
                this.image_event("load", &id, loaded.references.first().map_or(&id, |r| r));
                if loaded.references.is_empty() {
                    last.push(status(format!("Loaded image ID: {id}")));
                }
                last.extend(
                    loaded.references.iter().map(|name| status(format!("Loaded image: {name}"))),
                );
            }
            Ok(last)
        };
        Ok(progress_stream(events, work))
    }

    /// Images as one tar. Names are looked up before this returns; errors later are items.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn image_save(&self, names: &[String]) -> Result<ByteStream> {
        let saved = self.inner.images.save(names)?;
        for name in names {
            if let Ok(image) = self.inner.images.get(name) {
                self.image_event("save", &image.id.to_string(), name);
            }
        }
        Ok(stream::bytes(saved))
    }

    /// Makes an image of a root file system; gives its id.
    ///
    /// # Errors
    /// `Invalid` names, changes, platforms and archives.
    pub async fn image_import<R>(
        &self,
        archive: R,
        reference: Option<&str>,
        changes: Vec<String>,
        message: Option<String>,
        platform: Option<&str>,
    ) -> Result<String>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let reference = match reference.filter(|r| !r.is_empty()) {
            Some(text) => Some(Reference::parse(text).map_err(skep_image::Error::from)?.tagged()),
            None => None,
        };
        let platform = match platform.filter(|p| !p.is_empty()) {
            Some(text) => Some(Platform::parse(text).map_err(skep_image::Error::from)?),
            None => None,
        };
        let name = reference.as_ref().map(Reference::familiar);
        let options = ImportOptions { reference, changes, message, platform };
        let id = self.inner.images.import(archive, options, Progress::none()).await?.to_string();
        self.image_event("import", &id, name.as_deref().unwrap_or(&id));
        Ok(id)
    }

    /// What a registry has under a name.
    ///
    /// # Errors
    /// Those of the registry.
    pub async fn image_distribution(
        &self,
        name: &str,
        credentials: Credentials,
    ) -> Result<DistributionInspect> {
        let reference = Reference::parse(name).map_err(skep_image::Error::from)?.tagged();
        let found = self.inner.images.distribution(&reference, &credentials).await?;
        Ok(DistributionInspect {
            descriptor: OciDescriptor {
                media_type: Some(found.media_type),
                digest: Some(found.digest.to_string()),
                size: i64::try_from(found.size).ok(),
                ..OciDescriptor::default()
            },
            platforms: found
                .platforms
                .into_iter()
                .map(|p| OciPlatform {
                    architecture: Some(p.architecture),
                    os: Some(p.os),
                    variant: (!p.variant.is_empty()).then_some(p.variant),
                    ..OciPlatform::default()
                })
                .collect(),
        })
    }

    /// Checks credentials; an identity token if the registry gives one.
    ///
    /// # Errors
    /// `Unauthorized`, and those of the registry.
    pub async fn registry_login(
        &self,
        server: &str,
        credentials: Credentials,
    ) -> Result<Option<String>> {
        Ok(self.inner.images.login(server, &credentials).await?)
    }
}

/// Progress while `work` runs, then its last lines or its error. Dropping the stream drops the work.
fn progress_stream<F>(events: UnboundedReceiver<Event>, work: F) -> ProgressStream
where
    F: Future<Output = Result<Vec<CreateImageInfo>>> + Send + 'static,
{
    let events = futures::stream::unfold(events, |mut events| async move {
        events.recv().await.map(|event| (Ok(line(event)), events))
    });
    // Polled together: the channel ends when the work has dropped its senders.
    let work = futures::stream::once(work).flat_map(|result| {
        futures::stream::iter(match result {
            Ok(lines) => lines.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        })
    });
    Ordered { events: Some(events.boxed()), work: work.boxed(), held: Vec::new() }.into_stream()
}

/// Both at once, but what the work says comes after all events.
struct Ordered {
    events: Option<ProgressStream>,
    work: ProgressStream,
    held: Vec<Result<CreateImageInfo>>,
}

impl Ordered {
    fn into_stream(self) -> ProgressStream {
        futures::stream::unfold((self, false), |(mut this, mut done)| async move {
            loop {
                let Some(events) = &mut this.events else {
                    if !this.held.is_empty() {
                        let item = this.held.remove(0);
                        return Some((item, (this, done)));
                    }
                    if done {
                        return None;
                    }
                    return this.work.next().await.map(|item| (item, (this, done)));
                };
                tokio::select! {
                    biased;
                    event = events.next() => match event {
                        Some(item) => return Some((item, (this, done))),
                        None => this.events = None,
                    },
                    item = this.work.next(), if !done => match item {
                        Some(item) => this.held.push(item),
                        None => done = true,
                    },
                }
            }
        })
        .boxed()
    }
}

fn status(text: String) -> CreateImageInfo {
    CreateImageInfo { status: Some(text), ..CreateImageInfo::default() }
}

fn line(event: Event) -> CreateImageInfo {
    let number = |n: Option<u64>| n.and_then(|n| i64::try_from(n).ok());
    CreateImageInfo {
        id: event.id,
        error_detail: None,
        status: Some(event.status.into_owned()),
        progress_detail: Some(ProgressDetail {
            current: number(event.current),
            total: number(event.total),
        })
        .filter(|p| p.current.is_some()),
    }
}

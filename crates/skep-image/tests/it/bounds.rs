//! What callers rely on at compile time: servers spawn these futures on many threads.

use skep_image::{
    CommitOptions, Credentials, Images, ImportOptions, Platform, Progress, PruneFilter, Reference,
    RemoveOptions,
};

fn spawnable<T: Send>(_: T) {}

#[expect(dead_code, reason = "it only has to compile")]
fn futures_can_be_spawned(images: &Images, name: &Reference, platform: &Platform) {
    fn shared<T: Send + Sync + Clone + 'static>(_: &T) {}
    shared(images);
    let who = Credentials::Anonymous;
    spawnable(images.pull(name, Some(platform), &who, Progress::none()));
    spawnable(images.push(name, &who, Progress::none()));
    spawnable(images.distribution(name, &who));
    spawnable(images.remote_tags(name, &who));
    spawnable(images.login("", &who));
    spawnable(images.load(tokio::io::empty(), Progress::none()));
    spawnable(images.import(tokio::io::empty(), ImportOptions::default(), Progress::none()));
    spawnable(images.tag("a", "b"));
    spawnable(images.remove("a", RemoveOptions::default(), |_| Vec::new()));
    spawnable(images.prune(PruneFilter::default(), |_| Vec::new()));
    spawnable(images.changes("c"));
    spawnable(images.rw_size("c"));
    spawnable(images.commit("c", CommitOptions::default()));
    spawnable(images.diff("c"));
}

/// The same through a boxed, owning task, where lifetimes must not be general.
#[expect(dead_code, reason = "it only has to compile")]
fn boxed(images: Images, name: Reference, platform: Platform, who: Credentials) {
    let task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
        let pulled = Box::pin(images.pull(&name, Some(&platform), &who, Progress::none())).await;
        let pushed = Box::pin(images.push(&name, &who, Progress::none())).await;
        let about = images.distribution(&name, &who).await;
        let tags = images.remote_tags(&name, &who).await;
        drop((pulled, pushed, about, tags));
    });
    drop(task);
}

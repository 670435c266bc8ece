//! Enums that have the same members on both sides.

use skep_types as t;

use crate::v1 as pb;

macro_rules! same {
    ($($ours:ty, $theirs:ty: $($name:ident)+;)*) => {$(
        impl From<$ours> for $theirs {
            fn from(value: $ours) -> Self {
                match value { $(<$ours>::$name => Self::$name,)+ }
            }
        }

        impl From<$theirs> for $ours {
            fn from(value: $theirs) -> Self {
                match value { $(<$theirs>::$name => Self::$name,)+ }
            }
        }
    )*};
}

same! {
    t::TaskState, pb::TaskState:
        New Pending Assigned Accepted Preparing Ready Starting Running Complete Shutdown Failed
        Rejected Remove Orphaned;
    t::NodeRole, pb::NodeRole: Worker Manager;
    t::NodeMembership, pb::node_spec::Membership: Pending Accepted;
    t::NodeAvailability, pb::node_spec::Availability: Active Pause Drain;
    t::NodeState, pb::node_status::State: Unknown Down Ready Disconnected;
    t::Reachability, pb::raft_member_status::Reachability: Unknown Unreachable Reachable;
    t::IssuanceState, pb::issuance_status::State: Unknown Renew Pending Issued Failed Rotate;
    t::MountType, pb::mount::Type: Bind Volume Tmpfs Npipe Cluster Image;
    t::MountConsistency, pb::mount::Consistency: Default Consistent Cached Delegated;
    t::MountPropagation, pb::mount::bind_options::Propagation:
        Rprivate Private Rshared Shared Rslave Slave;
    t::RestartCondition, pb::restart_policy::RestartCondition: None OnFailure Any;
    t::FailureAction, pb::update_config::FailureAction: Pause Continue Rollback;
    t::UpdateOrder, pb::update_config::UpdateOrder: StopFirst StartFirst;
    t::ResolutionMode, pb::endpoint_spec::ResolutionMode: Vip Dnsrr;
    t::Protocol, pb::port_config::Protocol: Tcp Udp Sctp;
    t::PublishMode, pb::port_config::PublishMode: Ingress Host;
    t::SeccompMode, pb::privileges::seccomp_opts::SeccompMode: Default Unconfined Custom;
    t::AppArmorMode, pb::privileges::app_armor_opts::AppArmorMode: Default Disabled;
}

impl From<t::UpdateState> for pb::update_status::UpdateState {
    fn from(state: t::UpdateState) -> Self {
        match state {
            t::UpdateState::Updating => Self::Updating,
            t::UpdateState::Paused => Self::Paused,
            t::UpdateState::Completed => Self::Completed,
            t::UpdateState::RollbackStarted => Self::RollbackStarted,
            t::UpdateState::RollbackPaused => Self::RollbackPaused,
            t::UpdateState::RollbackCompleted => Self::RollbackCompleted,
        }
    }
}

impl From<pb::update_status::UpdateState> for t::UpdateState {
    /// Unknown is an update that has just begun.
    fn from(state: pb::update_status::UpdateState) -> Self {
        use pb::update_status::UpdateState as Pb;
        match state {
            Pb::Unknown | Pb::Updating => Self::Updating,
            Pb::Paused => Self::Paused,
            Pb::Completed => Self::Completed,
            Pb::RollbackStarted => Self::RollbackStarted,
            Pb::RollbackPaused => Self::RollbackPaused,
            Pb::RollbackCompleted => Self::RollbackCompleted,
        }
    }
}
